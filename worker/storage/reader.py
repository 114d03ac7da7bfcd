"""Read an object into slots: ranges in order of bytes, later ones under way while the first is hashed."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from worker.storage.object_version import ObjectAddress, ObjectVersion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType


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
    """What can fill memory with the bytes of an object version."""

    async def read_first(
        self, address: ObjectAddress, destination: memoryview, on_pinned: Callable[[ObjectVersion], None]
    ) -> None:
        """Pin what is there, tell it, and fill the destination with its first bytes; or raise."""

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        """Fill the whole destination with the bytes from `start`, or raise."""


@dataclass(frozen=True, slots=True)
class _RangeUnderWay(Generic[SlotT]):
    slot: SlotT
    filling: asyncio.Task[Exception | None]


def read_object(
    source: RangeSource, what: ObjectAddress | ObjectVersion, slots: Slots[SlotT], *, ranges_in_flight: int
) -> ObjectRanges[SlotT]:
    """Read an object into slots: yields `(slot, length)` in order of bytes; an empty object yields nothing.

        async with read_object(store, address, slots, ranges_in_flight=4) as ranges:
            print(ranges.version)
            async for slot, length in ranges: ...

    Entering pins the object version: its first range is asked for, and the head of the answer tells. An
    object that fits one slot costs one request and one slot.

    Slots are acquired in order of bytes, and a range that has its slot needs nothing more to be finished:
    readers that share their slots cannot block one another for ever. Memory is slots times their size,
    whatever the object's size. A slot that was yielded belongs to the caller, who releases it; leaving, in
    whatever way, releases the others once nothing writes into them any more.

    Args:
        source: What fills a slot; it tries again by itself.
        what: An address, for the version that is there now or that it names; or a version pinned before, to
            read that one again: entering then asks for nothing.
        slots: One range fills one slot, the last range perhaps not whole.
        ranges_in_flight: How many ranges, at least one, are under way or waiting behind the one last yielded.

    Raises:
        ValueError: No range in flight.
        StorageError: On entering: nothing could be pinned. While iterating: the next range could not be
            read. It comes alone, never in a group.
    """
    if ranges_in_flight < 1:
        raise ValueError(f"{ranges_in_flight} ranges in flight would read nothing")
    return ObjectRanges(source, what, slots, ranges_in_flight)


class ObjectRanges(Generic[SlotT]):
    """What `read_object` gives; one task starts the ranges, one fills each, all in one group.

    Attributes:
        version: What was pinned; there is none before entering.
    """

    version: ObjectVersion

    def __init__(
        self,
        source: RangeSource,
        what: ObjectAddress | ObjectVersion,
        slots: Slots[SlotT],
        ranges_in_flight: int,
    ) -> None:
        self._source = source
        self._what = what
        self._slots = slots
        self._places = asyncio.Semaphore(ranges_in_flight)
        self._under_way: deque[_RangeUnderWay[SlotT]] = deque()
        self._news = asyncio.Event()
        self._is_pinned = False
        self._failed: Exception | None = None
        self._unstarted_bytes = 0
        self._unread_bytes = 0
        self._group = asyncio.TaskGroup()
        self._starting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        address = self._what if isinstance(self._what, ObjectAddress) else self._what.address
        unread = f"{self._unread_bytes} bytes unread" if self._is_pinned else "not pinned"
        return f"<read_object {address}: {unread}, {len(self._under_way)} ranges under way>"

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        try:
            if isinstance(self._what, ObjectAddress):
                await self._pin(self._what)
            else:
                self._take_note(self._what)
        except BaseException:
            await self._leave()
            raise
        if self._unstarted_bytes:
            self._starting = self._group.create_task(self._start_ranges())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        if self._starting is not None:
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
        length = min(len(first.slot.view), self._unread_bytes)
        self._unread_bytes -= length
        return first.slot, length

    async def _first_under_way(self) -> _RangeUnderWay[SlotT]:
        while not self._under_way:
            if self._failed is not None:
                raise self._failed
            self._news.clear()
            await self._news.wait()
        return self._under_way[0]

    async def _pin(self, address: ObjectAddress) -> None:
        """Start the first range and wait for the head of its answer; the body comes meanwhile."""
        slot = await self._next_slot()
        filling = self._start(slot, partial(self._source.read_first, address, slot.view, self._take_note))
        filling.add_done_callback(lambda _: self._news.set())
        await self._news.wait()
        if not self._is_pinned:
            raise filling.result() or AssertionError("the first range ended without a pin")
        if self.version.size_bytes:
            self._unstarted_bytes -= min(len(slot.view), self._unstarted_bytes)
        else:
            await asyncio.wait((filling,))
            self._slots.release(self._under_way.popleft().slot)

    def _take_note(self, version: ObjectVersion) -> None:
        self.version = version
        self._is_pinned = True
        self._unread_bytes = self._unstarted_bytes = version.size_bytes
        self._news.set()

    async def _start_ranges(self) -> None:
        """Start range after range, each when it has a place in flight and a slot."""
        try:
            while self._unstarted_bytes:
                slot = await self._next_slot()
                length = min(len(slot.view), self._unstarted_bytes)
                start = self.version.size_bytes - self._unstarted_bytes
                self._unstarted_bytes -= length
                self._start(slot, partial(self._source.read_range, self.version, start, slot.view[:length]))
                self._news.set()
        except Exception as error:  # noqa: BLE001 - it is the caller's: __anext__ raises it, in order and in no group
            self._failed = error
            self._news.set()

    async def _next_slot(self) -> SlotT:
        await self._places.acquire()
        return await self._slots.acquire()

    def _start(self, slot: SlotT, read: Callable[[], Awaitable[None]]) -> asyncio.Task[Exception | None]:
        filling = self._group.create_task(_outcome(read))
        self._under_way.append(_RangeUnderWay(slot, filling))
        return filling


async def _outcome(read: Callable[[], Awaitable[None]]) -> Exception | None:
    try:
        await read()
    except Exception as error:  # noqa: BLE001 - as in _start_ranges
        return error
    return None
