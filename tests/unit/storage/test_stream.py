"""The stream against a plain file, and what it asks for."""

import asyncio
import errno
import io
import random
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import pytest

from worker.queueing.loop_thread import LoopThread
from worker.storage.errors import StorageUnreachableError
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.stream import ObjectStream, open_stream

KiB = 1024
ADDRESS = ObjectAddress("bucket", "key")


def pattern(size_bytes: int) -> bytes:
    """Make bytes whose period is a prime."""
    return (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]


class Source:
    """Gives ranges of bytes in memory.

    Attributes:
        asked: Begin and length of each range.
        fails_from: A range that reaches this far fails.
        is_held: Ranges are asked for, and do not come.
        pause_seconds: Each takes so long.
        most_at_once: How many were under way.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.fails_from = len(content) + 1
        self.is_held = False
        self.pause_seconds = 0.0
        self.at_once = self.most_at_once = 0
        self.cancelled = 0

    async def read_first(
        self, address: ObjectAddress, destination: memoryview, on_pinned: Callable[[ObjectVersion], None]
    ) -> None:
        """Give the beginning."""
        on_pinned(ObjectVersion(address, '"etag"', len(self.content)))
        await self._fill(0, destination[: len(self.content)])

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        """Give a range."""
        await self._fill(start, destination)

    async def _fill(self, start: int, destination: memoryview) -> None:
        self.asked.append((start, len(destination)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.pause_seconds)
            if self.is_held:
                await asyncio.Event().wait()
            if start + len(destination) >= self.fails_from:
                raise StorageUnreachableError("s3://bucket/key")
            destination[:] = self.content[start : start + len(destination)]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    """Open nothing."""
    yield


@pytest.fixture
def start() -> Iterator[Callable[[Coroutine[Any, Any, None]], Future[None]]]:
    """Begin work in a loop of the test's own."""
    with LoopThread(nothing) as loop:
        yield loop.start


Start = Callable[[Coroutine[Any, Any, None]], Future[None]]


@pytest.fixture
def open_over(start: Start) -> Callable[[Source], ObjectStream]:
    """Open a stream of small ranges over a source."""
    return lambda source: open_stream(source, ADDRESS, start, range_bytes=128 * KiB, ranges_in_flight=3)


Open = Callable[[Source], ObjectStream]

LEAST = 64 * KiB


@pytest.mark.parametrize("size_bytes", [0, 1, LEAST - 1, LEAST, LEAST + 1, 3 * LEAST, 1_000_003])
def test_all_of_it_is_read(open_over: Open, size_bytes: int) -> None:
    """At every edge of its ranges."""
    content = pattern(size_bytes)

    with open_over(Source(content)) as stream:
        assert stream.read() == content
        assert stream.read() == b""
        assert (stream.tell(), stream.size_bytes) == (size_bytes, size_bytes)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_with_it_a_file_would_give_the_same(open_over: Open, seed: int) -> None:
    """Seeks, reads of all kinds and lines, in any order."""
    chance = random.Random(seed)  # noqa: S311 - chooses tests, guards nothing
    content = bytes(chance.choice(b"abc\n") for _ in range(400_000))
    file = io.BytesIO(content)
    stream = open_over(Source(content))

    for _ in range(300):
        length = chance.choice([0, 1, 10, 1000, 70_000, 300_000])
        match chance.randrange(6):
            case 0:
                place = chance.randrange(len(content) + 10)
                assert stream.seek(place) == file.seek(place)
            case 1:
                assert stream.seek(-length, io.SEEK_END) == file.seek(-length, io.SEEK_END)
            case 2:
                assert stream.read(length) == file.read(length)
            case 3:
                mine, its = bytearray(length), bytearray(length)
                assert stream.readinto(mine) == file.readinto(its)
                assert mine == its
            case 4:
                assert stream.readline() == file.readline()
            case _:
                assert content.startswith(stream.read1(length), file.tell())
                file.seek(stream.tell())
        assert stream.tell() == file.tell()
    stream.close()


def test_lines_are_iterated(open_over: Open) -> None:
    """As of a file."""
    content = b"one\ntwo\n\nlast without an end"

    assert list(open_over(Source(content))) == content.splitlines(keepends=True)


def test_a_seek_before_the_beginning_is_refused(open_over: Open) -> None:
    """By the error that a file raises; the position stays."""
    stream = open_over(Source(pattern(10)))
    stream.seek(3)

    with pytest.raises(OSError, match=r"-1 is before the beginning of s3://bucket/key\.") as refused:
        stream.seek(-11, io.SEEK_END)

    assert refused.value.errno == errno.EINVAL
    assert stream.read() == pattern(10)[3:]


@pytest.mark.parametrize("size_bytes", [0, 1, 21, 22, 400_000])
def test_what_is_too_short_for_a_zip_file_is_none(open_over: Open, size_bytes: int) -> None:
    """Libraries look at the end of whatever they are given."""
    assert not zipfile.is_zipfile(open_over(Source(pattern(size_bytes))))


def test_it_can_be_read_and_not_written(open_over: Open) -> None:
    """Libraries ask before they begin."""
    stream = open_over(Source(b""))

    assert (stream.readable(), stream.seekable(), stream.writable()) == (True, True, False)
    assert (stream.name, stream.mode) == ("s3://bucket/key", "rb")


def test_a_closed_stream_reads_nothing(open_over: Open) -> None:
    """As of a file; to close it twice is fine."""
    stream = open_over(Source(pattern(10)))
    stream.close()
    stream.close()

    with pytest.raises(ValueError, match="closed"):
        stream.read(1)
    with pytest.raises(ValueError, match="closed"):
        stream.seek(0)


def test_a_look_far_away_costs_what_is_looked_at(open_over: Open) -> None:
    """Ranges that were read ahead are dropped, and a seek begins with as much as is wanted."""
    source = Source(pattern(4_000_000))
    stream = open_over(source)
    stream.read(500_000)
    source.asked.clear()

    stream.seek(-22, io.SEEK_END)
    stream.read(22)
    stream.seek(1_000_000)
    stream.read(10)

    assert source.asked == [(3_999_978, 22), (1_000_000, LEAST)]


def test_ranges_are_read_ahead_and_no_more_than_are_allowed(open_over: Open) -> None:
    """A reader from end to end has all of its ranges under way, and never more."""
    source = Source(pattern(3_000_000))
    source.pause_seconds = 0.02

    with open_over(source) as stream:
        while stream.read(10_000):
            pass

    assert source.most_at_once == 3
    assert max(length for _, length in source.asked) == 128 * KiB
    assert sum(length for _, length in source.asked) == 3_000_000


def test_after_an_error_reading_goes_on_only_where_one_says(open_over: Open) -> None:
    """What a read had got before its error is lost, so the next must not go on behind it."""
    content = pattern(1_000_000)
    source = Source(content)
    source.fails_from = 500_000
    stream = open_over(source)

    with pytest.raises(StorageUnreachableError):
        stream.read(800_000)
    source.fails_from = len(content) + 1
    with pytest.raises(StorageUnreachableError):
        stream.read(1)
    stream.seek(0)

    assert stream.read() == content


def test_an_interrupted_read_goes_on_only_where_one_says(start: Start) -> None:
    """Ctrl-C in the middle loses bytes as an error does."""
    source = Source(pattern(1_000_000))
    is_interrupted = threading.Event()

    def begin(work: Coroutine[Any, Any, None], /) -> Future[None]:
        if is_interrupted.is_set():
            work.close()
            raise KeyboardInterrupt
        return start(work)

    stream = open_stream(source, ADDRESS, begin, range_bytes=128 * KiB)
    is_interrupted.set()

    with pytest.raises(KeyboardInterrupt):
        stream.read(800_000)
    is_interrupted.clear()
    with pytest.raises(OSError, match="Reading s3://bucket/key was interrupted; seek to where"):
        stream.read(1)
    stream.seek(10)

    assert stream.read(5) == source.content[10:15]


def test_closing_breaks_off_what_is_under_way(open_over: Open) -> None:
    """Nobody waits for what nobody will read."""
    source = Source(pattern(3_000_000))
    stream = open_over(source)
    stream.read(300_000)
    source.is_held = True
    stream.raw._read_ahead(1_000_000)
    while not source.at_once:
        time.sleep(0.001)

    stream.close()
    while source.at_once:
        time.sleep(0.001)

    assert source.cancelled
