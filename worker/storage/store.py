"""One S3 storage: pinning an object version and reading ranges of it, again while that may help."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

import structlog
from botocore.exceptions import ClientError

from worker.storage import errors
from worker.storage.access import StoreLimits
from worker.storage.direct_way import DirectWay
from worker.storage.filling import Filling, RateFloor
from worker.storage.library_errors import is_transient, our_errors
from worker.storage.library_way import LibraryWay, client_of, request_for
from worker.storage.object_version import ObjectAddress, ObjectVersion, check_etag, is_offline
from worker.storage.ranges import range_header
from worker.storage.throttle import Throttle, pause_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import HeadObjectOutputTypeDef, ListObjectsV2OutputTypeDef

    from worker.storage.access import StoreAccess
    from worker.storage.throttle import Turn

_log = structlog.get_logger()
_T = TypeVar("_T")


class ObjectStore:
    """One S3 storage and its one client: an async context manager, to be kept for the life of the process.

    A client per job would leak (https://github.com/boto/botocore/issues/2047).

    Args:
        access: Where and as whom.
        limits: Connections, timeouts, retries.
        is_direct: False: aiobotocore reads every byte. True: only what the direct way does not fit, the first
            range of a bucket among it.

    Attributes:
        retries: Requests that were made again, since they failed or their body broke off; without those that
            the storage had put off.
    """

    def __init__(
        self, access: StoreAccess, limits: StoreLimits | None = None, *, is_direct: bool = True
    ) -> None:
        self._access = access
        self._limits = limits or StoreLimits()
        # aiohttp waits for a free connection without end; waiting here keeps that out of the timeouts.
        self._permits = asyncio.Semaphore(self._limits.max_connections)
        self._asking = 0
        self.retries = 0
        host = urlsplit(access.endpoint_url).hostname if access.endpoint_url else None
        self._name = host or "AWS"
        self._throttle = Throttle(self._name, self._limits)
        self._opened = AsyncExitStack()
        self._client: S3Client
        self._library: LibraryWay
        self._direct = DirectWay(access, self._limits) if is_direct else None

    async def __aenter__(self) -> Self:
        """Open the client; no request is sent.

        Raises:
            ValueError: The endpoint or the region cannot be one.
        """
        self._client = await self._opened.enter_async_context(client_of(self._access, self._limits))
        self._library = LibraryWay(self._client)
        if self._direct is not None:
            self._opened.push_async_callback(self._direct.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def __repr__(self) -> str:
        return (
            f"<ObjectStore {self._name}: {self._asking} of {self._limits.max_connections} connections busy>"
        )

    async def reach(self, bucket: str) -> None:
        """Ask whether a bucket is there and open to us (HeadBucket, which wants s3:ListBucket).

        Raises:
            StorageError: It is not; it tells why.
        """
        where = f"s3://{bucket}"
        await self._persist(where, partial(self._reach_once, bucket, where))

    async def list_objects(self, bucket: str, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """List the objects under a prefix, page by page (ListObjectsV2, which wants s3:ListBucket).

        Args:
            bucket: Where to look.
            prefix: What the keys begin with; nothing means all of them.

        Yields:
            Key and size in bytes, in the storage's order: on AWS that of the keys' UTF-8 bytes.

        Raises:
            StorageError: It can't be listed, or not to its end.
        """
        where = f"s3://{bucket}/{prefix}"
        request = {"Bucket": bucket, "Prefix": prefix}
        while True:
            page = await self._persist(where, partial(self._list_once, where, request))
            for listed in page.get("Contents", ()):
                yield listed["Key"], listed["Size"]
            if "NextContinuationToken" not in page:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    async def pin(self, address: ObjectAddress) -> ObjectVersion:
        """Find out which version there is now (or the named one) without reading a byte (HeadObject).

        Raises:
            ObjectOfflineError: It lies in cold storage and has no restored copy.
            WrongAnswerError: The storage gives no strong ETag, or another version than the one named.
            StorageError: It cannot be pinned for another reason.
        """
        head = await self._persist(str(address), partial(self._head_once, address))
        return _pinned(address, head)

    async def read_first(
        self, address: ObjectAddress, destination: memoryview, on_pinned: Callable[[ObjectVersion], None]
    ) -> None:
        """Pin the version that there is now (or the named one) and read its first bytes, in one request.

        It ends when the destination is full or the object at its end. A body that breaks or stalls is asked
        for again from the byte it reached, of the version pinned. Only an empty object costs a second
        request: it has no first byte, and most servers refuse the Range.

        Args:
            address: Where the object is.
            destination: Writable bytes, at least one; what it holds after an error means nothing.
            on_pinned: Is told the version once, before the first byte comes.

        Raises:
            WrongAnswerError: The storage gives no strong ETag, or answers a range with something else.
            StorageError: It cannot be pinned, or the bytes did not come.
        """
        filling = Filling(address, destination, on_pinned=on_pinned)
        try:
            await self._fill(filling)
        except errors.NoSuchRangeError:
            # Where nothing was pinned nothing can have become shorter: there is no first byte.
            if filling.version is not None:
                raise
            filling.pin(await self.pin(address))
            if filling.rest:
                await self._fill(filling)

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
        if destination:
            await self._fill(Filling(version.address, destination, start=start, version=version))

    async def _fill(self, filling: Filling) -> None:
        await self._persist(filling.where, partial(self._fill_once, filling))

    async def _fill_once(self, filling: Filling) -> None:
        try:
            await self._ask_for_rest(filling)
        except errors.TransientStorageError:
            # The last byte and the end of patience can come in one turn of the loop, after a freeze say.
            if filling.rest:
                raise

    async def _ask_for_rest(self, filling: Filling) -> None:
        async with self._request(filling.where) as (silence, turn):
            filling.watch(RateFloor(silence, self._limits, partial(self._throttle.heard, turn)))
            asked = filling.address  # the answer may pin a version id, which was not asked for
            if self._direct is None:
                await self._library.get(filling)
            elif not await self._direct.get(filling):
                sent = await self._library.get(filling)
                self._direct.learn(asked, sent)
            if filling.rest:
                raise errors.StorageUnreachableError(filling.where, "the body was too short")

    async def _reach_once(self, bucket: str, where: str) -> None:
        async with self._request(where):
            try:
                await self._client.head_bucket(Bucket=bucket)
            except ClientError as error:
                # An answer to HEAD has no body that could tell the reason (RFC 9110, 9.3.2); one to GET has.
                if not is_transient(error):
                    await self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
                raise

    async def _list_once(self, where: str, request: dict[str, Any]) -> ListObjectsV2OutputTypeDef:
        async with self._request(where):
            return await self._client.list_objects_v2(**request)

    async def _head_once(self, address: ObjectAddress) -> HeadObjectOutputTypeDef:
        request = request_for(address)
        async with self._request(str(address)):
            try:
                return await self._client.head_object(**request)
            except ClientError as error:
                # As in _reach_once: the first byte's GET fails for the same reason, and tells it.
                if not is_transient(error):
                    answer = await self._client.get_object(**request, Range=range_header(0, 1))
                    answer["Body"].close()
                raise

    @asynccontextmanager
    async def _request(self, where: str) -> AsyncIterator[tuple[asyncio.Timeout, Turn]]:
        """Hold one connection, bound the storage's silence, and tell failures in our words."""
        longest_silence_seconds = self._limits.connect_timeout_seconds + self._limits.stall_timeout_seconds
        async with self._permits, self._throttle.turn(where) as turn:
            self._asking += 1
            try:
                with our_errors(where):
                    async with asyncio.timeout(longest_silence_seconds) as silence:
                        yield silence, turn
            finally:
                self._asking -= 1

    async def _persist(self, where: str, step: Callable[[], Awaitable[_T]]) -> _T:
        """Try a step again while that may help; the last error is the caller's."""
        attempt = 1
        refused_since: float | None = None
        while True:
            try:
                return await step()
            except errors.StorageBusyError:
                # It costs no attempt: the throttle makes the next one wait. Patience ends with the storage as
                # a whole, and also with a range that alone is always refused.
                now = asyncio.get_running_loop().time()
                refused_since = now if refused_since is None else refused_since
                is_refused_too_long = now - refused_since >= self._limits.patience_seconds
                if is_refused_too_long or self._throttle.is_out_of_patience:
                    raise
            except errors.TransientStorageError as error:
                if attempt >= self._limits.attempts:
                    raise
                await self._pause(where, attempt, error)
                attempt += 1

    async def _pause(self, where: str, attempt: int, error: errors.TransientStorageError) -> None:
        share = random.random()  # noqa: S311 - spreads requests, guards nothing
        seconds = pause_seconds(self._limits, attempt, share=share)
        self.retries += 1
        _log.warning(
            "The storage is asked again",
            where=where,
            code=error.code,
            detail=error.detail,
            attempt=attempt,
            pause_seconds=round(seconds, 3),
        )
        await asyncio.sleep(seconds)


def _pinned(address: ObjectAddress, head: HeadObjectOutputTypeDef) -> ObjectVersion:
    """Make the object version of the answer to HEAD, or refuse what cannot be read safely."""
    storage_class = head.get("StorageClass", "STANDARD")
    if is_offline(storage_class, head.get("ArchiveStatus", ""), head.get("Restore", "")):
        raise errors.ObjectOfflineError(str(address), f"storage class {storage_class}")
    version_id = head.get("VersionId", address.version_id)
    if address.version_id not in {None, version_id}:
        raise errors.WrongAnswerError(str(address), "another version id")
    return ObjectVersion(
        address=ObjectAddress(address.bucket, address.key, version_id),
        etag=check_etag(address, head.get("ETag")),
        size_bytes=head["ContentLength"],
        storage_class=storage_class,
    )
