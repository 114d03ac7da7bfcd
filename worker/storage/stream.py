"""An object as a file: plain functions read and seek in it, and ranges are read ahead behind them."""

from __future__ import annotations

import errno
import io
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from _typeshed import WriteableBuffer

    from worker.storage.object_version import ObjectAddress, ObjectVersion
    from worker.storage.reader import RangeSource

# What the smallest read costs. The end of a zip file and the head of most others fit in.
_LEAST_BYTES = 64 * 1024


class Start(Protocol):
    """Begins a coroutine in an event loop of another thread."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> Future[None]:
        """Give its end, which can be waited for and cancelled."""
        ...


def open_stream(
    source: RangeSource,
    address: ObjectAddress,
    start: Start,
    *,
    name: str | None = None,
    range_bytes: int = 4 * 1024 * 1024,
    ranges_in_flight: int = 4,
) -> ObjectStream:
    """Open an object for reading; its first 64 KiB are read, and their answer pins the version.

    Not to be called in the event loop itself, nor are the stream's methods: they wait for it.

    Args:
        source: What reads ranges; it tries again by itself.
        address: Of the object; without a version id, what is there now.
        start: Begins its work in the event loop.
        name: The stream's name, for people; None: the object's address.
        range_bytes: The longest range.
        ranges_in_flight: Ranges at once at most, those that have come and are not read yet among them. Memory
            is so many times `range_bytes`, whatever the object's size.

    Raises:
        StorageError: It can't be pinned.
    """
    pinned: list[ObjectVersion] = []
    beginning = memoryview(bytearray(_LEAST_BYTES))
    opening = start(source.read_first(address, beginning, pinned.append))
    try:
        opening.result()
    except BaseException:  # Ctrl-C: nobody waits for it any more
        opening.cancel()
        raise
    reading = _Reading(source, pinned[-1], start, range_bytes, ranges_in_flight)
    return ObjectStream(_ObjectReader(reading, beginning, name or str(address)))


class ObjectStream(io.BufferedReader):
    """An object that is open for reading, as `open(path, "rb")` gives a file.

    Every byte is of the version that was pinned when it was opened, or reading raises an error. After an
    error, or when a read was interrupted, it is not known how far the reader has got: reading goes on only
    after `seek`. Memory does not grow with the object.
    """

    raw: _ObjectReader

    def __init__(self, raw: _ObjectReader) -> None:
        super().__init__(raw, _LEAST_BYTES)

    @property
    def version(self) -> ObjectVersion:
        """What was pinned."""
        return self.raw.version

    @property
    def size_bytes(self) -> int:
        """The object's size."""
        return self.raw.version.size_bytes


@dataclass(frozen=True, slots=True)
class _Reading:
    """How ranges are read."""

    source: RangeSource
    version: ObjectVersion
    start: Start
    range_bytes: int
    ranges_in_flight: int


@dataclass(frozen=True, slots=True)
class _Range:
    """One range, there or on its way; `coming` is None for the one that came when the version was pinned."""

    first: int
    content: memoryview
    coming: Future[None] | None = None

    @property
    def end(self) -> int:
        return self.first + len(self.content)

    def drop(self) -> None:
        if self.coming is not None:
            self.coming.cancel()


class _ObjectReader(io.RawIOBase):
    """The stream without its buffer. As many bytes are read ahead as have been read in a row.

    So a seek far away costs little more than what is read there, and a reader that goes through the whole
    object soon has all its ranges in flight.
    """

    def __init__(self, reading: _Reading, beginning: memoryview, name: str) -> None:
        self.name = name
        self.mode = "rb"
        self.version = reading.version
        self._reading = reading
        self._size_bytes = reading.version.size_bytes
        self._position = 0
        # Without gaps, in order; the first begins at or before the position.
        self._ranges = deque([_Range(0, beginning[: self._size_bytes])])
        self._in_a_row_bytes = 0
        self._in_a_row_end = 0
        self._broken_by: Exception | None = None

    def __repr__(self) -> str:
        return f"<_ObjectReader {self.name} at {self._position}, {len(self._ranges)} ranges held>"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        if whence not in origins:
            raise ValueError(f"{whence} is no whence: 0 is the beginning, 1 the position, 2 the end")
        position = origins[whence] + offset
        if position < 0:
            # Not a ValueError: whoever looks for an end as of a zip file expects what a file raises.
            raise OSError(errno.EINVAL, f"{position} is before the beginning of {self.name}.")
        self._position = position
        self._broken_by = None
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._check_open()
        if self._broken_by is not None:
            raise self._broken_by
        try:
            return self._copy(memoryview(buffer).cast("B"))
        except BaseException as error:
            # Whoever reads through a buffer may have lost what came before the error.
            interrupted = OSError(f"Reading {self.name} was interrupted; seek to where it has to go on.")
            self._broken_by = error if isinstance(error, Exception) else interrupted
            self._forget()
            raise

    def readall(self) -> bytes:
        # RawIOBase would take it in pieces of 8 KiB.
        content = bytearray(max(0, self._size_bytes - self._position))
        rest = memoryview(content)
        while rest and (length := self.readinto(rest)):
            rest = rest[length:]
        return bytes(content)

    def close(self) -> None:
        if not self.closed:
            self._forget()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"The stream {self.name} is closed.")

    def _copy(self, destination: memoryview) -> int:
        length = min(len(destination), self._size_bytes - self._position)
        if length <= 0:
            return 0
        self._aim()
        self._read_ahead(length + self._in_a_row_bytes)
        first = self._ranges[0]
        if first.coming is not None:
            first.coming.result()
        offset = self._position - first.first
        found = first.content[offset : offset + length]
        destination[: len(found)] = found
        self._position += len(found)
        self._in_a_row_bytes += len(found)
        self._in_a_row_end = self._position
        if self._position == first.end:
            self._ranges.popleft()
        return len(found)

    def _aim(self) -> None:
        """Drop the ranges before the position; all of them, if the reader has gone to where none is."""
        while self._ranges and self._ranges[0].end <= self._position:
            self._ranges.popleft().drop()
        is_held = bool(self._ranges) and self._ranges[0].first <= self._position
        if not is_held and self._position != self._in_a_row_end:
            self._forget()

    def _read_ahead(self, wanted_bytes: int) -> None:
        """Start ranges until so many bytes from the position are there or coming."""
        reading = self._reading
        wanted_end = min(self._size_bytes, self._position + wanted_bytes)
        next_first = self._ranges[-1].end if self._ranges else self._position
        while next_first < wanted_end and len(self._ranges) < reading.ranges_in_flight:
            length = min(reading.range_bytes, max(_LEAST_BYTES, wanted_end - next_first))
            content = memoryview(bytearray(min(length, self._size_bytes - next_first)))
            coming = reading.start(reading.source.read_range(self.version, next_first, content))
            self._ranges.append(_Range(next_first, content, coming))
            next_first += len(content)

    def _forget(self) -> None:
        while self._ranges:
            self._ranges.popleft().drop()
        self._in_a_row_bytes = 0
