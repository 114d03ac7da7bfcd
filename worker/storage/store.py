"""One S3 storage: its client, pinning an object version, and reading one range of it into memory."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from worker.storage import errors
from worker.storage.library_errors import is_busy, our_errors
from worker.storage.object_version import ObjectAddress, ObjectVersion, is_offline, is_strong_etag
from worker.storage.ranges import RangeAnswer, check_answer, range_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from aiobotocore.response import StreamingBody
    from pydantic import SecretStr
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

_log = structlog.get_logger()
_T = TypeVar("_T")

# Half the CPU of 1 KiB pieces, which is aiobotocore's default, or of the whole body at once.
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAccess:
    """How to reach one storage.

    Args:
        endpoint_url: None for AWS itself.
        region: Also other servers want one; `us-east-1` if they do not say.
        access_key: The key's id.
        secret_key: Never shown.
        session_token: Only with temporary credentials; never shown.
        addressing_style: Where the bucket goes: in the path, in the host name, or as the client finds fit.
        verify_tls: False trusts any certificate; a path names a file of CA certificates.
    """

    endpoint_url: str | None
    region: str
    access_key: str
    secret_key: SecretStr
    session_token: SecretStr | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    verify_tls: bool | str = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What one storage may cost us.

    Args:
        max_connections: Requests under way at once; others wait for their turn.
        connect_timeout_seconds: For one connection.
        read_timeout_seconds: How long a storage may be silent, and the window of the floor on the rate.
        slowest_bytes_per_second: The floor: a body that brings less over a window is cut and resumed.
        attempts: Requests for one pin or one range, the first included.
        first_wait_seconds: The longest wait before the second attempt; it doubles with each attempt.
        longest_wait_seconds: Where the doubling ends.
    """

    max_connections: int = 16
    connect_timeout_seconds: float = 5
    read_timeout_seconds: float = 30
    slowest_bytes_per_second: int = 64 * 1024
    attempts: int = 8
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 20


class ObjectStore:
    """One S3 storage and its one client: an async context manager, to be kept for the life of the process.

    A client per job would leak (https://github.com/boto/botocore/issues/2047).

    Args:
        access: Where and as whom.
        limits: Connections, timeouts, retries.
    """

    def __init__(self, access: StoreAccess, limits: StoreLimits | None = None) -> None:
        self._access = access
        self._limits = limits or StoreLimits()
        # aiohttp waits for a free connection without end; waiting here keeps that out of the timeouts.
        self._permits = asyncio.Semaphore(self._limits.max_connections)
        self._asking = 0
        self._opened = AsyncExitStack()
        self._client: S3Client

    async def __aenter__(self) -> Self:
        """Open the client; no request is sent.

        Raises:
            ValueError: The endpoint or the region cannot be one.
        """
        self._client = await self._opened.enter_async_context(_client_of(self._access, self._limits))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def __repr__(self) -> str:
        host = urlsplit(self._access.endpoint_url).hostname if self._access.endpoint_url else "AWS"
        return f"<ObjectStore {host}: {self._asking} of {self._limits.max_connections} connections busy>"

    async def reach(self, bucket: str) -> None:
        """Ask whether a bucket is there and open to us (HeadBucket, which wants s3:ListBucket).

        Raises:
            StorageError: It is not; it tells why.
        """
        where = f"s3://{bucket}"
        await self._persist(where, partial(self._reach_once, bucket, where))

    async def pin(self, address: ObjectAddress) -> ObjectVersion:
        """Find out which version there is now (or the named one), before its first byte is read.

        A storage that gives no strong ETag is refused: size and time alone do not show a change within
        one second, and a digest over two versions must never come to be.

        Raises:
            ObjectOfflineError: It lies in cold storage and has no restored copy.
            WrongAnswerError: The storage gives no strong ETag.
            StorageError: It cannot be pinned for another reason.
        """
        head = await self._persist(str(address), partial(self._head_once, address))
        return _pinned(address, head)

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        """Fill the destination with the object's bytes from `start`, or raise.

        A body that breaks or stalls is asked for again from the byte it reached. An empty destination costs
        no request.

        Args:
            version: As pinned.
            start: Offset in the object, in bytes.
            destination: Writable bytes; what it holds after an error means nothing.

        Raises:
            ValueError: The range does not lie within the object.
            StorageError: The bytes did not come.
        """
        if start < 0 or start + len(destination) > version.size_bytes:
            raise ValueError(f"{len(destination)} bytes from {start} are not within {version}")
        unfilled = _Unfilled(start, destination)
        if unfilled.rest:
            await self._persist(str(version.address), partial(self._fill_once, version, unfilled))

    async def _reach_once(self, bucket: str, where: str) -> None:
        async with self._request(where):
            try:
                await self._client.head_bucket(Bucket=bucket)
            except ClientError as error:
                # An answer to HEAD has no body that could tell the reason (RFC 9110, 9.3.2); one to GET has.
                if not is_busy(error):
                    await self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
                raise

    async def _head_once(self, address: ObjectAddress) -> HeadObjectOutputTypeDef:
        request = _request_for(address)
        async with self._request(str(address)):
            try:
                return await self._client.head_object(**request)
            except ClientError as error:
                # As in _reach_once: the first byte's GET fails for the same reason, and tells it.
                if not is_busy(error):
                    answer = await self._client.get_object(**request, Range=range_header(0, 1))
                    answer["Body"].close()
                raise

    async def _fill_once(self, version: ObjectVersion, unfilled: _Unfilled) -> None:
        async with self._request(str(version.address)) as silence:
            answer = await self._client.get_object(
                **_request_for(version.address),
                IfMatch=version.etag,
                Range=range_header(unfilled.start, len(unfilled.rest)),
            )
            async with answer["Body"] as body:
                check_answer(version, unfilled.start, len(unfilled.rest), _head_of(answer))
                await self._copy(body, unfilled, silence, str(version.address))
            if unfilled.rest:
                raise errors.StorageUnreachableError(str(version.address), "the body was too short")

    async def _copy(
        self, body: StreamingBody, unfilled: _Unfilled, silence: asyncio.Timeout, where: str
    ) -> None:
        """Copy a body into memory; a window that brings enough bytes earns the next one."""
        window_seconds = self._limits.read_timeout_seconds
        enough_bytes = self._limits.slowest_bytes_per_second * window_seconds
        received_bytes = 0
        async for piece in body.iter_chunks(_PIECE_BYTES):
            if len(piece) > len(unfilled.rest):
                raise errors.WrongAnswerError(where, "more bytes than asked for")
            unfilled.take(piece)
            received_bytes += len(piece)
            if received_bytes >= enough_bytes:
                received_bytes = 0
                silence.reschedule(asyncio.get_running_loop().time() + window_seconds)

    @asynccontextmanager
    async def _request(self, where: str) -> AsyncIterator[asyncio.Timeout]:
        """Hold one connection, bound the storage's silence, and tell failures in our words."""
        async with self._permits:
            self._asking += 1
            try:
                with our_errors(where):
                    patience_seconds = (
                        self._limits.connect_timeout_seconds + self._limits.read_timeout_seconds
                    )
                    async with asyncio.timeout(patience_seconds) as silence:
                        yield silence
            finally:
                self._asking -= 1

    async def _persist(self, where: str, step: Callable[[], Awaitable[_T]]) -> _T:
        """Try a step again while that may help; the last attempt's error is the caller's."""
        for attempt in range(1, self._limits.attempts):
            try:
                return await step()
            except errors.TransientStorageError as error:
                wait_seconds = _full_jitter_seconds(self._limits, attempt)
                _log.warning(
                    "The storage is asked again",
                    where=where,
                    code=error.code,
                    detail=error.detail,
                    attempt=attempt,
                    wait_seconds=round(wait_seconds, 3),
                )
            await asyncio.sleep(wait_seconds)
        return await step()


class _Unfilled:
    """The part of a destination that no byte has reached yet: where the next GET begins."""

    def __init__(self, start: int, destination: memoryview) -> None:
        self.start = start
        self.rest = destination

    def take(self, piece: bytes) -> None:
        self.rest[: len(piece)] = piece
        self.rest = self.rest[len(piece) :]
        self.start += len(piece)


class _NoRedirects(AIOHTTPSession):
    """Never goes where an answer points to: aiohttp would, and take the session token along.

    botocore's own change of region, which signs anew, goes on working.
    """

    async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
        session = await super()._get_session(proxy_url)  # type: ignore[misc] # the stubs leave it out
        return SimpleNamespace(request=partial(_ask_once, session))


async def _ask_once(session: aiohttp.ClientSession, method: str, **options: Any) -> aiohttp.ClientResponse:
    answer = await session.request(method, allow_redirects=False, **options)
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
    if method == "HEAD" and is_redirect and "x-amz-bucket-region" not in answer.headers:
        # botocore would ask for the bucket's region with another HEAD, which is redirected, and so on.
        raise aiohttp.TooManyRedirects(answer.request_info, answer.history, status=answer.status)
    return answer


def _client_of(access: StoreAccess, limits: StoreLimits) -> AbstractAsyncContextManager[S3Client]:
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
            http_session_cls=_NoRedirects,
            max_pool_connections=limits.max_connections,
            connect_timeout=limits.connect_timeout_seconds,
            read_timeout=limits.read_timeout_seconds,
            # One attempt: _persist is the one place that tries again, so that attempts do not multiply.
            retries={"mode": "standard", "total_max_attempts": 1},
            s3={"addressing_style": access.addressing_style},
            # Other servers than AWS often know no such checksums, and ranges carry none.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # the endpoint is ours, not the environment's
            warm_up_loader_caches=True,  # reads botocore's files off the loop
        ),
    )


def _request_for(address: ObjectAddress) -> dict[str, Any]:
    request = {"Bucket": address.bucket, "Key": address.key}
    return request if address.version_id is None else {**request, "VersionId": address.version_id}


def _pinned(address: ObjectAddress, head: HeadObjectOutputTypeDef) -> ObjectVersion:
    """Make the object version of the answer to HEAD, or refuse what cannot be read safely."""
    storage_class = head.get("StorageClass", "STANDARD")
    if is_offline(storage_class, head.get("ArchiveStatus", ""), head.get("Restore", "")):
        raise errors.ObjectOfflineError(str(address), f"storage class {storage_class}")
    etag = head.get("ETag", "")
    if not is_strong_etag(etag):
        raise errors.WrongAnswerError(str(address), "no strong ETag, so a change could not be seen")
    return ObjectVersion(
        address=ObjectAddress(address.bucket, address.key, head.get("VersionId", address.version_id)),
        etag=etag,
        size_bytes=head["ContentLength"],
        storage_class=storage_class,
        last_modified=head.get("LastModified"),
    )


def _head_of(answer: GetObjectOutputTypeDef) -> RangeAnswer:
    return RangeAnswer(
        status=answer["ResponseMetadata"]["HTTPStatusCode"],
        etag=answer.get("ETag"),
        version_id=answer.get("VersionId"),
        content_range=answer.get("ContentRange"),
        length_bytes=answer.get("ContentLength"),
    )


def _full_jitter_seconds(limits: StoreLimits, attempt: int) -> float:
    """Choose how long to wait after an attempt (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/)."""
    longest = min(limits.longest_wait_seconds, limits.first_wait_seconds * 2 ** (attempt - 1))
    return random.uniform(0, longest)  # noqa: S311 - spreads requests, guards nothing
