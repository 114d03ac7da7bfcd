"""Read an object into slots: ranges in order of bytes, later ones under way while the first is hashed."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from worker.storage.ranges import plan_ranges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from worker.storage.object_version import ObjectVersion


class Slot(Protocol):
    """One buffer that holds one range."""

    @property
    def view(self) -> memoryview:
        """The whole slot, writable, in bytes."""


SlotT = TypeVar("SlotT", bound=Slot)


class Slots(Protocol[SlotT]):
    """Where slots come from and go back to; all of one size, and a few of them for many objects."""

    async def acquire(self) -> SlotT:
        """Wait for a free slot; being cancelled meanwhile loses none."""

    def release(self, slot: SlotT) -> None:
        """Give a slot back."""


class RangeSource(Protocol):
    """What can fill memory with a range of an object version."""

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        """Fill the whole destination with the bytes from `start`, or raise."""


@dataclass(frozen=True, slots=True)
class _RangeUnderWay(Generic[SlotT]):
    slot: SlotT
    length: int
    filling: asyncio.Task[Exception | None]


def read_object(
    source: RangeSource, version: ObjectVersion, slots: Slots[SlotT], *, ranges_in_flight: int
) -> AbstractAsyncContextManager[AsyncIterator[tuple[SlotT, int]]]:
    """Read an object into slots: yields `(slot, length)` in order of bytes; an empty object yields nothing.

        async with read_object(store, version, slots, ranges_in_flight=4) as ranges:
            async for slot, length in ranges: ...

    Slots are acquired in order of bytes, and a range that has its slot needs nothing more to be finished:
    readers that share their slots cannot block one another for ever. Memory is slots times their size,
    whatever the object's size. A slot that was yielded belongs to the caller, who releases it; leaving, in
    whatever way, releases the others once nothing writes into them any more.

    Args:
        source: What fills a slot; it tries again by itself.
        version: As pinned.
        slots: One range fills one slot, the last range perhaps not whole.
        ranges_in_flight: How many ranges, at least one, are under way or waiting behind the one last yielded.

    Raises:
        ValueError: No range in flight.
        StorageError: While iterating: the next range could not be read. It comes alone, never in a group.
    """
    if ranges_in_flight < 1:
        raise ValueError(f"{ranges_in_flight} ranges in flight would read nothing")
    return _RangesInOrder(source, version, slots, ranges_in_flight)


class _RangesInOrder(Generic[SlotT]):
    """What `read_object` gives; one task starts the ranges, one fills each, all in one group."""

    def __init__(
        self, source: RangeSource, version: ObjectVersion, slots: Slots[SlotT], ranges_in_flight: int
    ) -> None:
        self._source = source
        self._version = version
        self._slots = slots
        self._places = asyncio.Semaphore(ranges_in_flight)
        self._under_way: deque[_RangeUnderWay[SlotT]] = deque()
        self._news = asyncio.Event()
        self._failed: Exception | None = None
        self._unread_bytes = version.size_bytes
        self._group = asyncio.TaskGroup()

    def __repr__(self) -> str:
        return (
            f"<read_object {self._version.address}: {self._unread_bytes} bytes unread, "
            f"{len(self._under_way)} ranges under way>"
        )

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._starting = self._group.create_task(self._start_ranges())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._starting.cancel()
        for one in self._under_way:
            one.filling.cancel()
        try:
            # Not told of the caller's error: it goes on by itself, and not in a group.
            await self._group.__aexit__(None, None, None)
        finally:
            while self._under_way:
                self._slots.release(self._under_way.popleft().slot)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[SlotT, int]:
        if not self._unread_bytes:
            raise StopAsyncIteration
        first = await self._first_under_way()
        # Waits without cancelling the task when the caller is cancelled: leaving does that.
        await asyncio.wait((first.filling,))
        failed = first.filling.result()
        if failed is not None:
            raise failed
        self._under_way.popleft()
        self._places.release()
        self._unread_bytes -= first.length
        return first.slot, first.length

    async def _first_under_way(self) -> _RangeUnderWay[SlotT]:
        while not self._under_way:
            if self._failed is not None:
                raise self._failed
            self._news.clear()
            await self._news.wait()
        return self._under_way[0]

    async def _start_ranges(self) -> None:
        """Start range after range, each when it has a place in flight and a slot."""
        try:
            if not self._version.size_bytes:
                return
            slot = await self._next_slot()
            for start, length in plan_ranges(self._version.size_bytes, len(slot.view)):
                if start:
                    slot = await self._next_slot()
                filling = self._group.create_task(self._fill(slot, start, length))
                self._under_way.append(_RangeUnderWay(slot, length, filling))
                self._news.set()
        except Exception as error:  # noqa: BLE001 - it is the caller's: __anext__ raises it, in order and in no group
            self._failed = error
            self._news.set()

    async def _next_slot(self) -> SlotT:
        await self._places.acquire()
        return await self._slots.acquire()

    async def _fill(self, slot: SlotT, start: int, length: int) -> Exception | None:
        try:
            await self._source.read_range(self._version, start, slot.view[:length])
        except Exception as error:  # noqa: BLE001 - as in _start_ranges
            return error
        return None
