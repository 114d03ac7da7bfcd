"""From the errors of botocore, aiohttp and HTTP itself to ours: the tables, and what applies them."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError

from worker.network import AddressNotAllowedError
from worker.storage import errors
from worker.storage.http_head import MalformedAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The error codes of S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html) in our words.
_BY_CODE: dict[str, type[errors.StorageError]] = {
    "NoSuchKey": errors.NoSuchObjectError,
    "NoSuchVersion": errors.NoSuchObjectError,
    "KeyTooLongError": errors.NoSuchObjectError,
    "NoSuchBucket": errors.NoSuchBucketError,
    "InvalidBucketName": errors.NoSuchBucketError,
    "AccessDenied": errors.AccessDeniedError,
    "InvalidAccessKeyId": errors.CredentialsError,
    "SignatureDoesNotMatch": errors.CredentialsError,
    "InvalidToken": errors.CredentialsError,
    "RequestTimeTooSkewed": errors.CredentialsError,
    "ExpiredToken": errors.CredentialsExpiredError,
    "ExpiredTokenException": errors.CredentialsExpiredError,
    "TokenRefreshRequired": errors.CredentialsExpiredError,
    "RequestExpired": errors.CredentialsExpiredError,
    "PreconditionFailed": errors.ObjectChangedError,
    "InvalidRange": errors.NoSuchRangeError,
    "InvalidObjectState": errors.ObjectOfflineError,
    "RequestTimeout": errors.StorageFailedError,
    "SlowDown": errors.StorageBusyError,
}
# Where the code says nothing: an answer to HEAD has no body, hence no code but its status.
_BY_STATUS: dict[int, type[errors.StorageError]] = {
    401: errors.CredentialsError,
    403: errors.AccessDeniedError,
    404: errors.NoSuchObjectError,
    405: errors.NoSuchObjectError,  # the version is a delete marker
    412: errors.ObjectChangedError,
    416: errors.NoSuchRangeError,
    429: errors.StorageBusyError,
    500: errors.StorageFailedError,
    502: errors.StorageFailedError,
    503: errors.StorageBusyError,
    504: errors.StorageFailedError,
}
# What the libraries raise when there is no answer, or no whole one; the first row that fits counts.
_BY_EXCEPTION: tuple[tuple[tuple[type[Exception], ...], type[errors.StorageError]], ...] = (
    ((botocore_errors.ReadTimeoutError, TimeoutError), errors.ReadStalledError),
    ((botocore_errors.ParamValidationError,), errors.NoSuchBucketError),
    ((ResponseParserError, MalformedAnswerError), errors.WrongAnswerError),
    ((AddressNotAllowedError,), errors.EndpointNotAllowedError),
    (
        (
            botocore_errors.ConnectionError,
            botocore_errors.HTTPClientError,
            botocore_errors.IncompleteReadError,
            aiohttp.ClientError,  # ClientPayloadError passes through aiobotocore as it is
            OSError,
        ),
        errors.StorageUnreachableError,
    ),
)
_EXCEPTIONS = tuple(kind for kinds, _ in _BY_EXCEPTION for kind in kinds)

# Retry-After as a date (RFC 9110, section 10.2.3) is left aside: no S3 server is known that sends one.
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)

# Enough of a library's message for people; a server's text may be long.
_DETAIL_CHARACTERS = 200


@contextmanager
def our_errors(where: str) -> Iterator[None]:
    """Turn what the libraries raise into our errors, by the tables at the top."""
    try:
        yield
    except botocore_errors.ClientError as error:
        raise _from_answer(where, error) from error
    except _EXCEPTIONS as error:
        within = getattr(error, "kwargs", {}).get("error", error)
        if isinstance(within, aiohttp.TooManyRedirects):
            raise errors.WrongAnswerError(where, f"status {within.status}, a redirect") from error
        if isinstance(within, AddressNotAllowedError):  # aiobotocore wraps it as a failure of the network
            raise errors.EndpointNotAllowedError(where, str(within)) from error
        ours = next(ours for kinds, ours in _BY_EXCEPTION if isinstance(error, kinds))
        # Without botocore's wrapping, which would repeat the whole URL.
        raise ours(where, _first_line(within)) from error


def _from_answer(where: str, error: botocore_errors.ClientError) -> errors.StorageError:
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    return refusal(where, _status_of(error), error.response["Error"].get("Code", ""), headers)


def refusal(where: str, status: int, code: str, headers: Mapping[str, str]) -> errors.StorageError:
    """Make the error of an answer that is none of bytes, by the tables at the top.

    Args:
        where: The object or the bucket.
        status: Of the answer.
        code: S3's own, from the answer's body; empty if it has none.
        headers: Of the answer, by their names in lower case.
    """
    ours = _BY_CODE.get(code) or _BY_STATUS.get(status, errors.WrongAnswerError)
    detail = f"status {status}" if code in {"", str(status)} else f"{code}, status {status}"
    if issubclass(ours, errors.StorageBusyError):
        return ours(where, detail, retry_after_seconds=_retry_after_seconds(headers))
    return ours(where, detail)


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if _SECONDS.fullmatch(text) else None


def _status_of(error: botocore_errors.ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def is_transient(error: botocore_errors.ClientError) -> bool:
    """Tell an answer that may be another one in a moment from one that will stay."""
    return issubclass(
        _BY_STATUS.get(_status_of(error), errors.WrongAnswerError), errors.TransientStorageError
    )


def _first_line(error: Exception) -> str:
    return (str(error) or "timed out").splitlines()[0][:_DETAIL_CHARACTERS]
