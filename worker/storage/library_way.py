"""The way to a storage through aiobotocore: every request of S3, and bodies that are copied."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession

from worker.network import CheckingResolver, check_literal
from worker.storage.errors import WrongAnswerError
from worker.storage.ranges import RangeAnswer

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from botocore.awsrequest import AWSPreparedRequest
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef
    from yarl import URL

    from worker.storage.access import StoreAccess, StoreLimits
    from worker.storage.filling import Filling
    from worker.storage.object_version import ObjectAddress

# Half the CPU of 1 KiB pieces, which is aiobotocore's default, or of the whole body at once.
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class SentRequest:
    """Where a GET went and how it was signed, after whatever changes of region.

    Args:
        url: As sent.
        authorization: The header; never to be shown. Empty if it was signed otherwise or not at all.
    """

    url: str
    authorization: str = field(repr=False)


# botocore calls its handlers in the task that sends, so each task sees its own last request.
_last_sent: ContextVar[SentRequest] = ContextVar("last_sent")


class LibraryWay:
    """Reads ranges with aiobotocore.

    Args:
        client: As `client_of` makes it, open.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client
        client.meta.events.register("before-send.s3.GetObject", _note_request)

    async def get(self, filling: Filling) -> SentRequest:
        """Ask for the rest once and copy what comes; without an exception the body is at its end.

        Returns:
            What was sent, if the storage answered as it should.
        """
        condition: dict[str, Any] = {} if filling.version is None else {"IfMatch": filling.version.etag}
        answer = await self._client.get_object(
            **request_for(filling.address), **condition, Range=filling.range_header
        )
        async with answer["Body"] as body:
            filling.accept(_head_of(answer))
            async for piece in body.iter_chunks(_PIECE_BYTES):
                if len(piece) > len(filling.rest):
                    raise WrongAnswerError(filling.where, "more bytes than asked for")
                filling.rest[: len(piece)] = piece
                filling.advance(len(piece))
        return _last_sent.get()


def request_for(address: ObjectAddress) -> dict[str, Any]:
    """Make the arguments that name an object."""
    request = {"Bucket": address.bucket, "Key": address.key}
    return request if address.version_id is None else {**request, "VersionId": address.version_id}


def _note_request(request: AWSPreparedRequest, **_: Any) -> None:
    authorization = request.headers.get("Authorization", "")
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    _last_sent.set(SentRequest(request.url, text))


def _head_of(answer: GetObjectOutputTypeDef) -> RangeAnswer:
    return RangeAnswer(
        status=answer["ResponseMetadata"]["HTTPStatusCode"],
        etag=answer.get("ETag"),
        version_id=answer.get("VersionId"),
        content_range=answer.get("ContentRange"),
        length_bytes=answer.get("ContentLength"),
        storage_class=answer.get("StorageClass"),
    )


def client_of(access: StoreAccess, limits: StoreLimits) -> AbstractAsyncContextManager[S3Client]:
    """Make the one client of a store.

    Raises:
        ValueError: On entering: the endpoint or the region cannot be one.
    """
    token = access.session_token
    return AioSession().create_client(
        "s3",
        endpoint_url=access.endpoint_url,
        region_name=access.region,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key.get_secret_value(),
        aws_session_token=token.get_secret_value() if token else None,
        verify=access.verify_tls,
        config=AioConfig(
            http_session_cls=_KeySafeSession,
            connector_args={"resolver": CheckingResolver()},
            max_pool_connections=limits.max_connections,
            connect_timeout=limits.connect_timeout_seconds,
            read_timeout=limits.stall_timeout_seconds,
            # One attempt: ObjectStore is the one place that tries again, so that attempts do not multiply.
            retries={"mode": "standard", "total_max_attempts": 1},
            s3={"addressing_style": access.addressing_style},
            # Other servers than AWS often know no such checksums, and ranges carry none.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # the endpoint is ours, not the environment's
            warm_up_loader_caches=True,  # reads botocore's files off the loop
        ),
    )


class _KeySafeSession(AIOHTTPSession):
    """Never goes where an answer points to, nor to an address that is for nobody.

    aiohttp would follow a redirect and take the session token along. botocore's own change of region, which
    signs anew, goes on working.
    """

    async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
        session = await super()._get_session(proxy_url)  # type: ignore[misc] # the stubs leave it out
        return SimpleNamespace(request=partial(_ask_once, session))


async def _ask_once(
    session: aiohttp.ClientSession, method: str, *, url: URL, **options: Any
) -> aiohttp.ClientResponse:
    check_literal(url.host or "")  # aiohttp asks its resolver for names only
    answer = await session.request(method, url, allow_redirects=False, **options)
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
    if method == "HEAD" and is_redirect and "x-amz-bucket-region" not in answer.headers:
        # botocore would ask for the bucket's region with another HEAD, which is redirected, and so on.
        raise aiohttp.TooManyRedirects(answer.request_info, answer.history, status=answer.status)
    return answer
