"""A local file, a pipe or standard input to digests: the same lanes as a job's, without a storage."""

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from worker.hashing.algorithms import Algorithm
from worker.hashing.lanes import LanePool
from worker.jobs.errors import FileNotHashedError

SMALL_BYTES = 1024 * 1024
"""Up to here a file is hashed without lanes: starting them takes 0.1 s, hashing it a few ms."""
_PIECE_BYTES = 256 * 1024

ResultT = TypeVar("ResultT")


async def hash_small_file(stream: BinaryIO, algorithms: Sequence[Algorithm]) -> dict[str, bytes]:
    """Hash a regular file from where it stands to its end in a thread of this process.

    However often it is cancelled, it does not end before the thread, which goes on reading the file.

    Args:
        stream: Open; best a file of no more than SMALL_BYTES, a larger one is right too.
        algorithms: What to calculate. Those that are built in: an added one may take its process with it, and
            belongs into a lane.

    Returns:
        Digest by algorithm name.

    Raises:
        FileNotHashedError: It was changed while it was read.
        OSError: It can't be read.
    """
    return await _in_thread(_hash_here, stream, algorithms)


async def hash_stream(
    stream: BinaryIO,
    lanes: LanePool,
    algorithms: Sequence[Algorithm],
    on_bytes: Callable[[int], None] = lambda _: None,
) -> dict[str, bytes]:
    """Hash what a stream gives until its end, with all algorithms in one read.

    Args:
        stream: Open, without a buffer of its own: the bytes go straight into the slots. A regular file is
            hashed from where it stands; a pipe, a socket or a terminal is waited for, which can be cancelled.
        lanes: The hashing processes and their slots.
        algorithms: What to calculate.
        on_bytes: Is told how many bytes were read, slot by slot.

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
            capacity, length = len(slot.view), 0
            try:
                length = await fill(stream, slot.view)
            finally:
                if not length:
                    lanes.slots.release(slot)
            if length:
                session.feed(slot, length)
                on_bytes(length)
            if length < capacity:
                break  # the end; a terminal that was asked once more would wait for another Ctrl-D
        _check_unchanged(stream, before)
        return await session.digests()


def _check_unchanged(stream: BinaryIO, before: os.stat_result) -> None:
    after = os.fstat(stream.fileno())
    # Only a file stands still: what flows through a pipe changes its times too.
    is_file = stat.S_ISREG(before.st_mode)
    if is_file and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise FileNotHashedError("changed_while_reading", "it was changed while it was read; try again.")


def _hash_here(stream: BinaryIO, algorithms: Sequence[Algorithm]) -> dict[str, bytes]:
    before = os.fstat(stream.fileno())
    hashers = {algorithm.name: algorithm.new() for algorithm in algorithms}
    piece = memoryview(bytearray(_PIECE_BYTES))
    while count := _read_into(stream, piece):
        for hasher in hashers.values():
            hasher.update(piece[:count])
    _check_unchanged(stream, before)
    return {name: hasher.digest() for name, hasher in hashers.items()}


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
    """Fill the view as far as the file goes, in a thread, since a disk may be slow."""
    return await _in_thread(_read_all_into, stream, view)


async def _in_thread(work: Callable[..., ResultT], *arguments: object) -> ResultT:
    """Do some work in a thread.

    A thread can't be stopped and goes on using what it was given: this does not end before it, however often
    cancelled.
    """
    working = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    cancelled = None
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        working.exception()  # seen: the cancellation is what counts
        raise cancelled
    return working.result()


def _read_all_into(stream: BinaryIO, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := _read_into(stream, view[filled:])):
        filled += count
    return filled


def _read_into(stream: BinaryIO, view: memoryview) -> int | None:
    return stream.readinto(view)  # type: ignore[attr-defined,no-any-return]  # typeshed's BinaryIO lacks it
