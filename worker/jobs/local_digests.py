"""A local file, a pipe or standard input to digests: the same lanes as a job's, without a storage."""

import asyncio
import os
from collections.abc import Sequence
from typing import BinaryIO

from worker.hashing.algorithms import Algorithm
from worker.hashing.lanes import LanePool
from worker.hashing.slots import Slot
from worker.jobs.errors import FileNotHashedError


async def hash_stream(stream: BinaryIO, lanes: LanePool, algorithms: Sequence[Algorithm]) -> dict[str, bytes]:
    """Hash what a stream gives until its end, with all algorithms in one read.

    Args:
        stream: Open, without a buffer of its own: the bytes go straight into the slots. A regular file is
            hashed from where it stands.
        lanes: The hashing processes and their slots.
        algorithms: What to calculate.

    Returns:
        Digest by algorithm name; those of nothing where nothing came.

    Raises:
        FileNotHashedError: A regular file was changed while it was read.
        OSError: It can't be read.
        HashingError: A hasher failed, or a lane died.
    """
    before = os.fstat(stream.fileno())
    async with lanes.open_session(algorithms) as session:
        while True:
            slot = await lanes.slots.acquire()
            length = await _fill(stream, slot, lanes)
            if not length:
                break
            session.feed(slot, length)
        after = os.fstat(stream.fileno())
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise FileNotHashedError("changed_while_reading", "it was changed while it was read; try again.")
        return await session.digests()


async def _fill(stream: BinaryIO, slot: Slot, lanes: LanePool) -> int:
    """Fill a slot in a thread, since a disk may be slow; give the slot back where nothing came."""
    reading = asyncio.ensure_future(asyncio.to_thread(_read_into, stream, slot.view))
    length = 0
    try:
        length = await asyncio.shield(reading)
    finally:
        if not reading.done():
            # Cancelled: the thread still writes into the slot.
            await asyncio.wait([reading])
        if not length:
            lanes.slots.release(slot)
    return length


def _read_into(stream: BinaryIO, view: memoryview) -> int:
    """Fill the view as far as the stream goes: a pipe gives its bytes in small pieces."""
    filled = 0
    while filled < len(view) and (count := stream.readinto(view[filled:])):  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
        filled += count
    return filled
