"""Bytes of one object version to digests: the storage's ranges fed to the session of the hashing lanes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import LaneDiedError
from worker.hashing.lanes import LanePool
from worker.hashing.slots import Slot
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.reader import ObjectRanges, read_object
from worker.storage.store import ObjectStore

# A lane dies of something outside it (out of memory, a kill). If it happens again and again, the object
# itself may be the cause.
_ATTEMPTS = 3

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ObjectDigests:
    """The digests of one object version.

    Attributes:
        version: As pinned.
        by_name: Digest by algorithm name.
        read_seconds: Until the last byte was there.
        hash_seconds: From then until the last digest was.
    """

    version: ObjectVersion
    by_name: dict[str, bytes]
    read_seconds: float
    hash_seconds: float


async def hash_object(
    store: ObjectStore,
    address: ObjectAddress,
    lanes: LanePool,
    algorithms: Sequence[Algorithm],
    *,
    ranges_in_flight: int,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> ObjectDigests:
    """Hash one object version with all algorithms in one read.

    The version is pinned once: if lanes die, that very version is read again, or the object has changed.

    Args:
        store: Where the object is.
        address: Of the object; without a version id, what is there now.
        lanes: The hashing processes and their slots.
        algorithms: What to calculate.
        ranges_in_flight: Ranges asked for ahead of the hashers.
        on_bytes: Is told how many bytes were read, range by range.

    Raises:
        StorageError: The object can't be read, or changes while it is read.
        HashingError: A hasher failed, or lanes died three times under this object.
    """
    what: ObjectAddress | ObjectVersion = address
    for attempt in range(1, _ATTEMPTS + 1):
        began = time.monotonic()
        try:
            async with read_object(store, what, lanes.slots, ranges_in_flight=ranges_in_flight) as ranges:
                what = ranges.version
                return await _digests(ranges, lanes, algorithms, on_bytes, began)
        except LaneDiedError:
            if attempt == _ATTEMPTS:
                raise
            _log.warning("A lane died, the object is read again", object=str(address))
    raise AssertionError("the last attempt returns or raises")


async def _digests(
    ranges: ObjectRanges[Slot],
    lanes: LanePool,
    algorithms: Sequence[Algorithm],
    on_bytes: Callable[[int], None],
    began: float,
) -> ObjectDigests:
    async with lanes.open_session(algorithms, ranges.version.size_bytes) as session:
        async for slot, length in ranges:
            session.feed(slot, length)
            on_bytes(length)
        read = time.monotonic()
        by_name = await session.digests()
    return ObjectDigests(ranges.version, by_name, read - began, time.monotonic() - read)
