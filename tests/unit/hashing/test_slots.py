"""The ring of slots."""

import asyncio

import pytest

from worker.hashing.slots import Slot, SlotRing


async def test_a_slot_holds_as_many_writable_bytes_as_the_ring_says() -> None:
    """Whoever holds a slot may write all of it."""
    slot = await SlotRing(1, 5).acquire()
    slot.view[:] = b"hello"

    assert (slot.size_bytes, bytes(slot.view)) == (5, b"hello")


async def test_two_slots_share_no_byte() -> None:
    """What one reader writes, no other sees."""
    ring = SlotRing(2, 3)
    first, second = await ring.acquire(), await ring.acquire()
    first.view[:] = b"one"
    second.view[:] = b"two"

    assert first.index != second.index
    assert bytes(first.view) == b"one"


async def test_the_ring_tells_how_many_are_free_and_held() -> None:
    """Logs, tests and people see the same counts."""
    ring = SlotRing(3, 1)
    await ring.acquire()

    assert (ring.free_count, ring.held_count) == (2, 1)
    assert repr(ring) == "<SlotRing 2 free, 1 held>"


async def test_who_waits_longest_gets_the_next_slot() -> None:
    """The ring is fair."""
    ring = SlotRing(1, 1)
    held = await ring.acquire()
    order: list[str] = []

    async def take(name: str) -> None:
        slot = await ring.acquire()
        order.append(name)
        ring.release(slot)

    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "third"):
            group.create_task(take(name))
        await asyncio.sleep(0)
        ring.release(held)

    assert order == ["first", "second", "third"]
    assert repr(ring) == "<SlotRing 1 free, 0 held>"


async def test_a_late_comer_does_not_overtake_a_waiter_that_was_given_its_slot() -> None:
    """A slot that was given back belongs to the waiter at once, also before its task runs again."""
    ring = SlotRing(1, 1)
    held = await ring.acquire()
    waiter = asyncio.create_task(ring.acquire())
    await asyncio.sleep(0)
    ring.release(held)
    late_comer = asyncio.create_task(ring.acquire())

    assert (await waiter).index == held.index
    assert not late_comer.done()
    ring.release(held)
    await late_comer


async def test_a_cancelled_wait_takes_no_slot() -> None:
    """The slot goes to the next in the row."""
    ring = SlotRing(1, 1)
    held = await ring.acquire()
    cancelled, patient = asyncio.create_task(ring.acquire()), asyncio.create_task(ring.acquire())
    await asyncio.sleep(0)
    cancelled.cancel()
    ring.release(held)

    assert (await patient).index == held.index
    assert cancelled.cancelled()
    ring.release(held)
    assert repr(ring) == "<SlotRing 1 free, 0 held>"


async def test_a_cancellation_that_meets_its_slot_gives_it_back() -> None:
    """The slot and the cancellation may come in the same turn of the loop."""
    ring = SlotRing(1, 1)
    held = await ring.acquire()
    waiter = asyncio.create_task(ring.acquire())
    await asyncio.sleep(0)
    ring.release(held)
    waiter.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert repr(ring) == "<SlotRing 1 free, 0 held>"


async def test_a_slot_given_back_twice_is_an_error() -> None:
    """Two holders of one slot would mix two objects' bytes."""
    ring = SlotRing(1, 1)
    slot = await ring.acquire()
    ring.release(slot)

    with pytest.raises(ValueError, match="nobody holds it"):
        ring.release(slot)


async def test_a_slot_of_another_ring_is_an_error() -> None:
    """A ring takes back only what it lent."""
    ring = SlotRing(1, 1)
    await ring.acquire()

    with pytest.raises(ValueError, match="nobody holds it"):
        ring.release(Slot(0, memoryview(bytearray(1))))


async def test_closing_ends_every_wait() -> None:
    """Nobody waits for a slot that never comes."""
    ring = SlotRing(1, 1)
    held = await ring.acquire()
    waiter = asyncio.create_task(ring.acquire())
    await asyncio.sleep(0)
    ring.close()

    with pytest.raises(RuntimeError, match="closed"):
        await waiter
    with pytest.raises(RuntimeError, match="closed"):
        await ring.acquire()
    ring.release(held)
    assert ring.held_count == 0


@pytest.mark.parametrize(("count", "slot_bytes"), [(0, 1), (1, 0), (-1, 1)])
def test_a_ring_that_holds_nothing_is_an_error(count: int, slot_bytes: int) -> None:
    """Whoever waits for a slot of no bytes, or of no slots, waits for ever."""
    with pytest.raises(ValueError, match="can hold nothing"):
        SlotRing(count, slot_bytes)
