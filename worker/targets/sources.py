"""Hashes targets; lanes and S3 clients are opened when the first target needs them, and kept."""

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, BinaryIO, Self

from worker.hashing.errors import HashingError
from worker.jobs.errors import FileNotHashedError
from worker.jobs.local_digests import SMALL_BYTES, hash_small_file, hash_stream
from worker.settings import ANY_STORAGE, Settings, StorageSettings
from worker.storage.errors import NoSuchObjectError
from worker.storage.object_version import ObjectAddress
from worker.targets.target import (
    CONCERNS_ONE,
    STANDARD_INPUT,
    Hashed,
    Target,
    check_standard_input,
    reason_of,
)

if TYPE_CHECKING:
    from worker.hashing.lanes import LanePool
    from worker.storage.store import ObjectStore


class NoLanesError(HashingError):
    """There can be no lanes, and so no digest of any target."""


class Sources:
    """What targets are read from; an async context manager.

    Args:
        settings: For lanes and slots, and for S3 the storage whose `bucket` is the target's, else `default`.
        on_bytes: Is told how many bytes were read, as they come.
    """

    def __init__(self, settings: Settings, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self._settings = settings
        self._on_bytes = on_bytes
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._lane_pool: LanePool | None = None
        self._stores: dict[int, ObjectStore] = {}
        self._lane_count = settings.hashing.lanes or os.cpu_count() or 1
        # More files than lanes at once would only make a disk seek.
        self._files = asyncio.Semaphore(self._lane_count)
        self._objects = asyncio.Semaphore(settings.worker.files_at_once)
        self._standard_input = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def hash(self, target: Target) -> Hashed:
        """Hash one target with all its algorithms in one read; what goes wrong with it is in the answer.

        Raises:
            NoLanesError: There can be no lanes.
        """
        if target.error:
            return Hashed(target, {}, target.error)
        try:
            return Hashed(target, await self._digests(target))
        except NoLanesError:
            raise
        except CONCERNS_ONE as error:
            is_missing = isinstance(error, (FileNotFoundError, NoSuchObjectError))
            reason = reason_of(target.name, error)
            if isinstance(error, NoSuchObjectError) and target.name.endswith("/"):
                reason = f"There is no object {target.name}; --recursive hashes those under this prefix."
            return Hashed(target, {}, reason, is_missing)

    async def size_bytes(self, target: Target) -> int | None:
        """Tell a target's size before it is read; None for standard input, 0 for what can't be read."""
        if target.size_bytes is not None or target.source == STANDARD_INPUT:
            return target.size_bytes
        if target.error:
            return 0
        try:
            if isinstance(target.source, ObjectAddress):
                store = await self.store_of(target.source.bucket)
                return (await store.pin(target.source)).size_bytes
            return (await asyncio.to_thread(os.stat, target.source)).st_size
        except CONCERNS_ONE:
            return 0  # whoever hashes it tells why

    async def store_of(self, bucket: str) -> "ObjectStore":
        """Give the storage that the settings have for a bucket.

        Raises:
            FileNotHashedError: They have none, or one whose endpoint can't be one.
        """
        # Half of the time that a small local file takes would go into loading the S3 client.
        from worker.bootstrap.stores import store_access, store_limits  # noqa: PLC0415
        from worker.storage.store import ObjectStore  # noqa: PLC0415

        access = _access_to(self._settings, bucket)
        async with self._opening:
            if id(access) not in self._stores:
                limits = store_limits(self._settings.reading, self._settings.hashing.slots)
                store = ObjectStore(store_access(access, None), limits)
                try:
                    self._stores[id(access)] = await self._opened.enter_async_context(store)
                except ValueError as error:
                    reason = f"its storage's endpoint can't be one ({error}); correct it in the settings."
                    raise FileNotHashedError("wrong_endpoint", reason) from error
        return self._stores[id(access)]

    async def _digests(self, target: Target) -> dict[str, bytes]:
        if isinstance(target.source, ObjectAddress):
            async with self._objects:
                return await self._hash_object(target, target.source)
        if target.source == STANDARD_INPUT:
            check_standard_input()
            async with self._standard_input:
                # It stays open: descriptor 0 is not ours to close.
                with open(0, "rb", buffering=0, closefd=False) as stream:  # noqa: ASYNC230 - it is open already
                    return await self._hash_stream(target, stream)
        async with self._files:
            with open(target.source, "rb", buffering=0, opener=_open) as stream:  # noqa: ASYNC230 - quick
                return await self._hash_file(target, stream)

    async def _hash_object(self, target: Target, address: ObjectAddress) -> dict[str, bytes]:
        from worker.jobs.object_digests import hash_object  # noqa: PLC0415 - as in store_of

        store = await self.store_of(address.bucket)
        hashed = await hash_object(
            store,
            address,
            await self._lanes(),
            target.algorithms,
            ranges_in_flight=self._settings.reading.ranges_in_flight,
            on_bytes=self._on_bytes,
        )
        return hashed.by_name

    async def _hash_file(self, target: Target, stream: BinaryIO) -> dict[str, bytes]:
        status = os.fstat(stream.fileno())
        is_small = stat.S_ISREG(status.st_mode) and status.st_size <= SMALL_BYTES
        is_added = any(algorithm.definition is not None for algorithm in target.algorithms)
        if is_added or not is_small:
            return await self._hash_stream(target, stream)
        digests = await hash_small_file(stream, target.algorithms)
        self._on_bytes(status.st_size)
        return digests

    async def _hash_stream(self, target: Target, stream: BinaryIO) -> dict[str, bytes]:
        return await hash_stream(stream, await self._lanes(), target.algorithms, self._on_bytes)

    async def _lanes(self) -> "LanePool":
        from worker.hashing.lanes import LanePool  # noqa: PLC0415 - small files do without

        async with self._opening:
            if self._lane_pool is None:
                sizes = self._settings.hashing
                try:
                    pool = LanePool(self._lane_count, sizes.slots, sizes.slot_bytes)
                    self._lane_pool = await self._opened.enter_async_context(pool)
                except HashingError as error:
                    raise NoLanesError(str(error)) from error
                except OSError as error:
                    reason = error.strerror or type(error).__name__
                    raise NoLanesError(f"The hashing lanes can't be started: {reason}.") from error
        return self._lane_pool


def _open(path: str, flags: int) -> int:
    """Open as `open` does, but without waiting for a FIFO's writer."""
    is_fifo = stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - what `open` gives is a str
    return os.open(path, flags | os.O_NONBLOCK if is_fifo else flags)


def _access_to(settings: Settings, bucket: str) -> StorageSettings:
    """Choose the storage whose bucket this is, else the default one."""
    for storage in settings.storages.values():
        if storage.bucket == bucket:
            return storage
    if ANY_STORAGE in settings.storages:
        return settings.storages[ANY_STORAGE]
    raise FileNotHashedError(
        "no_credentials", f"the settings hold no S3 credentials for bucket {bucket}; add them there."
    )
