"""A local file, a pipe or standard input to digests: the same lanes as a job's, without a storage."""

import asyncio
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

from worker.hashing.algorithms import Algorithm
from worker.hashing.lanes import LanePool
from worker.jobs.errors import FileNotHashedError


async def hash_stream(stream: BinaryIO, lanes: LanePool, algorithms: Sequence[Algorithm]) -> dict[str, bytes]:
    """Hash what a stream gives until its end, with all algorithms in one read.

    Args:
        stream: Open, without a buffer of its own: the bytes go straight into the slots. A regular file is
            hashed from where it stands; a pipe, a socket or a terminal is waited for, which can be cancelled.
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
    fill = _fill_as_bytes_come if _may_keep_us_waiting(stream, before.st_mode) else _fill_in_thread
    async with lanes.open_session(algorithms) as session:
        while True:
            slot = await lanes.slots.acquire()
            length = 0
            try:
                length = await fill(stream, slot.view)
            finally:
                if not length:
                    lanes.slots.release(slot)
            if not length:
                break
            session.feed(slot, length)
        after = os.fstat(stream.fileno())
        # Only a file stands still: what flows through a pipe changes its times too.
        is_file = stat.S_ISREG(before.st_mode)
        if is_file and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise FileNotHashedError("changed_while_reading", "it was changed while it was read; try again.")
        return await session.digests()


def _may_keep_us_waiting(stream: BinaryIO, mode: int) -> bool:
    """Tell what waits for somebody else, for as long as it takes, from what is there already."""
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty()


async def _fill_as_bytes_come(stream: BinaryIO, view: memoryview) -> int:
    """Fill the view as far as the stream goes, in small pieces; nothing is read while nothing is there."""
    filled = 0
    while filled < len(view):
        await _until_readable(stream.fileno())
        count = _read_into(stream, view[filled:])
        if count == 0:
            break
        filled += count or 0  # None: another reader of the same pipe was faster
    return filled


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        # Each time, so that no news from before a read is taken for news after it.
        loop.remove_reader(descriptor)


async def _fill_in_thread(stream: BinaryIO, view: memoryview) -> int:
    """Fill the view as far as the file goes, in a thread, since a disk may be slow.

    A thread can't be stopped and writes into the view: this does not end before it, however often cancelled.
    """
    reading = asyncio.get_running_loop().run_in_executor(None, _read_all_into, stream, view)
    cancelled = None
    while not reading.done():
        try:
            await asyncio.wait([reading])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        reading.exception()  # seen: the cancellation is what counts
        raise cancelled
    return reading.result()


def _read_all_into(stream: BinaryIO, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := _read_into(stream, view[filled:])):
        filled += count
    return filled


def _read_into(stream: BinaryIO, view: memoryview) -> int | None:
    return stream.readinto(view)  # type: ignore[attr-defined,no-any-return]  # typeshed's BinaryIO lacks it
