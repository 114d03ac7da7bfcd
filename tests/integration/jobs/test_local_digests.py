"""A local file through real lanes: what the command line can't show."""

import asyncio
import io
import os
import pty
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve
from worker.jobs.errors import FileNotHashedError
from worker.jobs.local_digests import hash_small_file, hash_stream

SLOT_BYTES = 4096


@pytest_asyncio.fixture
async def lanes() -> AsyncIterator[LanePool]:
    """Run one lane with two small slots."""
    async with LanePool(1, 2, SLOT_BYTES) as pool:
        yield pool


class Watched(io.FileIO):
    """A file that tells before each of its reads."""

    def __init__(self, path: Path, before_read: Any) -> None:
        super().__init__(path)
        self._before_read = before_read

    def readinto(self, buffer: Any) -> int:
        """Tell, then read."""
        self._before_read()
        return super().readinto(buffer)


async def test_a_file_that_changes_while_it_is_read_gets_no_digest(lanes: LanePool, tmp_path: Path) -> None:
    """A digest over two states of a file would be of nothing."""
    path = tmp_path / "growing"
    path.write_bytes(b"x" * SLOT_BYTES)

    with (
        Watched(path, lambda: path.write_bytes(b"y" * (SLOT_BYTES + 1))) as stream,
        pytest.raises(FileNotHashedError, match="changed while it was read"),
    ):
        await hash_stream(stream, lanes, resolve(["md5"]))

    # Its lane may be at it still.
    async with asyncio.timeout(10):
        while lanes.slots.held_count:  # noqa: ASYNC110 - a slot that is given back sets no event
            await asyncio.sleep(0.001)


async def test_a_read_that_is_cancelled_gives_its_slot_back_when_nothing_writes_into_it(
    lanes: LanePool, tmp_path: Path
) -> None:
    """The thread can't be stopped, so its end is waited for."""
    path = tmp_path / "slow"
    path.write_bytes(b"x")
    reads, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(reads.set)
        may_go_on.wait()

    with Watched(path, hold) as stream:
        hashing = asyncio.create_task(hash_stream(stream, lanes, resolve(["md5"])))
        await reads.wait()
        hashing.cancel()
        await asyncio.sleep(0)
        assert lanes.slots.held_count == 1
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await hashing

    assert lanes.slots.held_count == 0


async def test_a_second_cancellation_does_not_give_the_slot_back_early_nor_never(
    lanes: LanePool, tmp_path: Path
) -> None:
    """However often somebody is impatient."""
    path = tmp_path / "slow"
    path.write_bytes(b"x")
    reads, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(reads.set)
        may_go_on.wait(20)

    with Watched(path, hold) as stream:
        hashing = asyncio.create_task(hash_stream(stream, lanes, resolve(["md5"])))
        await reads.wait()
        for _ in range(2):
            hashing.cancel()
            await asyncio.wait([hashing], timeout=0.01)
            assert lanes.slots.held_count == 1
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await hashing

    assert lanes.slots.held_count == 0


async def test_a_small_file_that_changes_while_it_is_read_gets_no_digest(tmp_path: Path) -> None:
    """Without lanes as with them."""
    path = tmp_path / "growing"
    path.write_bytes(b"x")

    with (
        Watched(path, lambda: path.write_bytes(b"yy")) as stream,
        pytest.raises(FileNotHashedError, match="changed while it was read"),
    ):
        await hash_small_file(stream, resolve(["md5"]))


async def test_a_small_file_stays_open_until_nobody_reads_it(tmp_path: Path) -> None:
    """The thread can't be stopped, so its end is waited for, however often it is cancelled."""
    path = tmp_path / "slow"
    path.write_bytes(b"x")
    reads, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(reads.set)
        may_go_on.wait(20)

    with Watched(path, hold) as stream:
        hashing = asyncio.create_task(hash_small_file(stream, resolve(["md5"])))
        await reads.wait()
        for _ in range(2):
            hashing.cancel()
            await asyncio.wait([hashing], timeout=0.01)
            assert not hashing.done()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await hashing


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[io.FileIO, int]]:
    """Make a FIFO and open both of its ends."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as reading:
        writing = os.open(path, os.O_WRONLY)
        yield reading, writing
        with suppress(OSError):
            os.close(writing)


async def test_a_fifo_that_is_written_in_two_steps_is_hashed_to_its_end(
    lanes: LanePool, fifo: tuple[io.FileIO, int]
) -> None:
    """Its times change with every byte, which is no change of what was read."""
    reading, writing = fifo
    hashing = asyncio.create_task(hash_stream(reading, lanes, resolve(["md5"])))
    os.write(writing, b"a" * 5_000)
    await asyncio.sleep(0.05)
    assert not hashing.done()
    os.write(writing, b"b" * 5_000)
    os.close(writing)

    digests = await hashing

    assert digests == hash_bytes(b"a" * 5_000 + b"b" * 5_000, ["md5"])
    assert lanes.slots.held_count == 0


@pytest.mark.parametrize("typed", [b"\x04", b"abc\n\x04", b"abc\ndef\n\x04"])
async def test_a_terminal_is_hashed_to_the_first_end_that_is_typed(lanes: LanePool, typed: bytes) -> None:
    """One Ctrl-D at a line's beginning ends it: nothing is read after that."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, typed)

    with io.FileIO(terminal) as stream:
        async with asyncio.timeout(10):
            digests = await hash_stream(stream, lanes, resolve(["md5"]))
    os.close(keyboard)

    assert digests == hash_bytes(typed[:-1], ["md5"])


async def test_waiting_for_a_pipe_can_be_cancelled_at_once(
    lanes: LanePool, fifo: tuple[io.FileIO, int]
) -> None:
    """Nothing reads it any more, and the slot is free."""
    reading, writing = fifo
    hashing = asyncio.create_task(hash_stream(reading, lanes, resolve(["md5"])))
    os.write(writing, b"a")
    await asyncio.sleep(0.05)
    hashing.cancel()
    await asyncio.wait([hashing], timeout=20)

    assert hashing.cancelled()
    assert lanes.slots.held_count == 0
    os.write(writing, b"b")
    assert reading.read() == b"b"
