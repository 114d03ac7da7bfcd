"""What `hash-worker hash` is given: local files, standard input, objects on S3. The lanes are a job's own."""

import os
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import HashingError
from worker.hashing.lanes import LanePool
from worker.jobs.errors import FileNotHashedError
from worker.jobs.local_digests import hash_stream
from worker.settings import ANY_STORAGE, Settings, StorageSettings
from worker.storage.errors import StorageError
from worker.storage.object_version import ObjectAddress

_S3 = "s3://"
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Hashed:
    """One target: its digests as hex by algorithm, or why it has none."""

    target: str
    digests: dict[str, str]
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the target as a JSON object."""
        return {"target": self.target, "hashes": self.digests, "error": self.error}


async def hash_targets(
    settings: Settings, targets: Sequence[str], algorithms: Sequence[Algorithm]
) -> AsyncIterator[Hashed]:
    """Hash each target in one read, one after the other; a target that fails does not stop the next.

    Args:
        settings: For lanes and slots, and for S3 the storage whose `bucket` is the target's, else `default`.
        targets: Paths, `-` for standard input, `s3://bucket/key` with or without `?versionId=…`.
        algorithms: What to calculate.

    Yields:
        One result for each target, in their order.
    """
    sizes = settings.hashing
    async with LanePool(sizes.lanes or os.cpu_count() or 1, sizes.slots, sizes.slot_bytes) as lanes:
        for target in targets:
            yield await _hash_target(settings, target, algorithms, lanes)


async def _hash_target(
    settings: Settings, target: str, algorithms: Sequence[Algorithm], lanes: LanePool
) -> Hashed:
    try:
        if target.startswith(_S3):
            digests = await _hash_on_s3(settings, target, algorithms, lanes)
        else:
            digests = await _hash_here(target, algorithms, lanes)
    except OSError as error:
        return Hashed(target, {}, f"{target}: {error.strerror or type(error).__name__}.")
    except (FileNotHashedError, HashingError) as error:
        return Hashed(target, {}, f"{target}: {error}")
    except StorageError as error:
        return Hashed(target, {}, str(error))
    return Hashed(target, {name: digest.hex() for name, digest in digests.items()})


async def _hash_here(target: str, algorithms: Sequence[Algorithm], lanes: LanePool) -> dict[str, bytes]:
    # Standard input stays open: descriptor 0 is not ours to close.
    source: Any = 0 if target == STANDARD_INPUT else target
    closefd = source != 0
    with open(source, "rb", buffering=0, closefd=closefd, opener=_open) as stream:  # noqa: ASYNC230 - opening is quick
        return await hash_stream(stream, lanes, algorithms)


def _open(path: str, flags: int) -> int:
    """Open as `open` does, but without waiting for a FIFO's writer."""
    is_fifo = stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - what `open` gives is a str
    return os.open(path, flags | os.O_NONBLOCK if is_fifo else flags)


async def _hash_on_s3(
    settings: Settings, target: str, algorithms: Sequence[Algorithm], lanes: LanePool
) -> dict[str, bytes]:
    # Half of the time that a small local file takes would go into loading the S3 client.
    from worker.bootstrap import store_access, store_limits  # noqa: PLC0415
    from worker.jobs.object_digests import hash_object  # noqa: PLC0415
    from worker.storage.store import ObjectStore  # noqa: PLC0415

    address = ObjectAddress.parse(target)
    access = _access_to(settings, address.bucket)
    limits = store_limits(settings.reading, settings.hashing.slots)
    async with ObjectStore(store_access(access, None), limits) as store:
        in_flight = settings.reading.ranges_in_flight
        hashed = await hash_object(store, address, lanes, algorithms, ranges_in_flight=in_flight)
        return hashed.by_name


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
