"""The ring of slots: the one bound on the bytes in flight. Whoever wants to read must hold a slot first."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One buffer of the ring.

    Attributes:
        index: its place in the ring.
        view: all of its bytes, writable.
    """

    index: int
    view: memoryview

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return len(self.view)


class SlotRing:
    """A fixed number of slots, lent to one holder each; count x slot_bytes of memory, whatever is read.

    Args:
        count: how many slots there are.
        slot_bytes: the size of each.
        views: the slots' memory; by default the ring has its own.
    """

    def __init__(self, count: int, slot_bytes: int, *, views: Sequence[memoryview] | None = None) -> None:
        if count < 1 or slot_bytes < 1:
            raise ValueError(f"A ring of {count} slots of {slot_bytes} bytes can hold nothing.")
        if views is None:
            views = [memoryview(bytearray(slot_bytes)) for _ in range(count)]
        self.count = count
        self.slot_bytes = slot_bytes
        self._free = deque(Slot(index, view) for index, view in enumerate(views))
        self._held: set[Slot] = set()
        self._waiters: deque[asyncio.Future[Slot]] = deque()
        self._is_closed = False

    @property
    def free_count(self) -> int:
        """How many slots nobody holds."""
        return len(self._free)

    @property
    def held_count(self) -> int:
        """How many slots are lent."""
        return len(self._held)

    async def acquire(self) -> Slot:
        """Wait for a free slot; who came first gets it first.

        Raises:
            RuntimeError: the ring is closed, or was closed while waiting.
        """
        if self._is_closed:
            raise RuntimeError("The slot ring is closed.")
        if self._free:
            return self._lend(self._free.popleft())
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):  # `release` may have passed it over already
                    self._waiters.remove(waiter)
            elif waiter.exception() is None:
                # The slot and the cancellation came in the same turn of the loop.
                self.release(waiter.result())
            raise

    def release(self, slot: Slot) -> None:
        """Give a slot back; the longest waiting `acquire` gets it.

        Raises:
            ValueError: nobody holds this slot, so it was given back twice or belongs to another ring.
        """
        if slot not in self._held:
            raise ValueError(f"Slot {slot.index} was given back but nobody holds it.")
        self._held.remove(slot)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(self._lend(slot))
                return
        self._free.append(slot)

    def close(self) -> None:
        """End every wait with an error and lend no more; slots that are held may still be given back."""
        self._is_closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(RuntimeError("The slot ring was closed while waiting for a slot."))

    def _lend(self, slot: Slot) -> Slot:
        self._held.add(slot)
        return slot

    def __repr__(self) -> str:
        return f"<SlotRing {self.free_count} free, {self.held_count} held>"
