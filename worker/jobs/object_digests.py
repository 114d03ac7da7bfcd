"""Bytes of one object version to digests: the storage's ranges fed to the session of the hashing lanes."""

from collections.abc import Sequence

import structlog

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import LaneDiedError
from worker.hashing.lanes import LanePool
from worker.storage.object_version import ObjectVersion
from worker.storage.reader import read_object
from worker.storage.store import ObjectStore

# A lane dies of something outside it (out of memory, a kill). If it happens again and again, the object
# itself may be the cause.
_ATTEMPTS = 3

_log = structlog.get_logger(__name__)


async def hash_object(
    store: ObjectStore,
    version: ObjectVersion,
    lanes: LanePool,
    algorithms: Sequence[Algorithm],
    *,
    ranges_in_flight: int,
) -> dict[str, bytes]:
    """Hash one object version with all algorithms in one read.

    An empty object gives the digests of nothing, without a request.

    Args:
        store: Where the object is.
        version: What was pinned before the first byte.
        lanes: The hashing processes and their slots.
        algorithms: What to calculate.
        ranges_in_flight: Ranges asked for ahead of the hashers.

    Returns:
        Digest by algorithm name.

    Raises:
        StorageError: The object can't be read, or is not what was pinned.
        HashingError: A hasher failed, or lanes died three times under this object.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _hash_once(store, version, lanes, algorithms, ranges_in_flight)
        except LaneDiedError:
            if attempt == _ATTEMPTS:
                raise
            _log.warning("A lane died, the object is read again", object=str(version.address))
    raise AssertionError("the last attempt returns or raises")


async def _hash_once(
    store: ObjectStore,
    version: ObjectVersion,
    lanes: LanePool,
    algorithms: Sequence[Algorithm],
    ranges_in_flight: int,
) -> dict[str, bytes]:
    async with lanes.open_session(algorithms, version.size_bytes) as session:
        async with read_object(store, version, lanes.slots, ranges_in_flight=ranges_in_flight) as ranges:
            async for slot, length in ranges:
                session.feed(slot, length)
        return await session.digests()
