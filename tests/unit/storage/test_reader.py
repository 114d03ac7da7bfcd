from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from worker.storage.errors import NoSuchObjectError, StorageError
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.reader import read_object

if TYPE_CHECKING:
    from collections.abc import Callable

RANGE_BYTES = 8
RING_SLOTS = 4
EDGES = [0, 1, RANGE_BYTES - 1, RANGE_BYTES, RANGE_BYTES + 1, 3 * RANGE_BYTES, RING_SLOTS * RANGE_BYTES]


class Slot:
    """One range's buffer."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(RANGE_BYTES))


class Ring:
    """A ring of slots that sees a slot given back twice, or while a read still writes into it."""

    def __init__(self, slots: int = RING_SLOTS) -> None:
        self.all = [Slot() for _ in range(slots)]
        self.free: asyncio.Queue[Slot] = asyncio.Queue()
        for slot in self.all:
            self.free.put_nowait(slot)
        self.writing: set[int] = set()

    async def acquire(self) -> Slot:
        """Wait for a free slot."""
        return await self.free.get()

    def release(self, slot: Slot) -> None:
        """Take a slot back."""
        assert slot not in self.free._queue  # type: ignore[attr-defined] # a queue shows its items in no other way
        assert id(slot.view.obj) not in self.writing
        self.free.put_nowait(slot)

    @property
    def is_whole(self) -> bool:
        """Tell whether every slot is back."""
        return self.free.qsize() == len(self.all)


class Source:
    """Fills ranges from memory; `before` may hold one back or fail it."""

    def __init__(self, ring: Ring, size_bytes: int) -> None:
        self.content = bytes(byte % 251 for byte in range(size_bytes))
        self.version = ObjectVersion(ObjectAddress("b", "k"), '"e"', size_bytes)
        self.begun: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.failures: dict[int, Exception] = {}
        self.pins = 0
        self.pin_gate = asyncio.Event()
        self.pin_gate.set()
        self.pin_failure: Exception | None = None
        self._ring = ring

    async def read_first(
        self, address: ObjectAddress, destination: memoryview, on_pinned: Callable[[ObjectVersion], None]
    ) -> None:
        """Pin the version, a turn of the loop later, then fill the first range."""
        assert address == self.version.address
        self.pins += 1
        await self.pin_gate.wait()
        if self.pin_failure is not None:
            raise self.pin_failure
        on_pinned(self.version)
        await self.read_range(self.version, 0, destination[: self.version.size_bytes])

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        """Fill a range, a turn of the loop later."""
        assert version is self.version
        if not destination:
            return
        self.begun.append(start)
        self._ring.writing.add(id(destination.obj))
        try:
            if start in self.gates:
                await self.gates[start].wait()
            if start in self.failures:
                raise self.failures[start]
            destination[:] = self.content[start : start + len(destination)]
        finally:
            try:
                await asyncio.sleep(0)  # a GET takes a turn of the loop to stop
            finally:
                self._ring.writing.remove(id(destination.obj))


async def read_all(source: Source, ring: Ring, ranges_in_flight: int) -> bytes:
    """Read an object as a consumer does."""
    content = bytearray()
    async with read_object(source, source.version.address, ring, ranges_in_flight=ranges_in_flight) as ranges:
        async for slot, length in ranges:
            content += slot.view[:length]
            ring.release(slot)
    return bytes(content)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is of counts, not of one event
            await asyncio.sleep(0)


def others() -> set[asyncio.Task[object]]:
    """List the tasks that are left beside the test's own."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@pytest.mark.parametrize("ranges_in_flight", [1, 2, RING_SLOTS, RING_SLOTS + 1])
@pytest.mark.parametrize("size_bytes", [*EDGES, RING_SLOTS * RANGE_BYTES + 1, 10 * RANGE_BYTES + 3])
async def test_every_byte_comes_once_and_in_order(size_bytes: int, ranges_in_flight: int) -> None:
    """At every edge of range and ring, however many ranges are in flight."""
    ring = Ring()
    source = Source(ring, size_bytes)

    content = await read_all(source, ring, ranges_in_flight)

    assert content == source.content
    assert source.begun == list(range(0, size_bytes, RANGE_BYTES))
    assert ring.is_whole
    assert not others()


async def test_an_empty_object_takes_no_slot() -> None:
    """However long its reader stays open, others are not held up."""
    ring = Ring()
    source = Source(ring, 0)

    async with read_object(source, source.version.address, ring, ranges_in_flight=2):
        for _ in range(5):
            await asyncio.sleep(0)
        was_whole = ring.is_whole

    assert was_whole
    assert not source.begun


async def test_ranges_that_end_out_of_order_are_yielded_in_order() -> None:
    """A range that is ready waits for the one before it."""
    ring = Ring()
    source = Source(ring, 3 * RANGE_BYTES)
    source.gates = {start: asyncio.Event() for start in (0, 8, 16)}
    reading = asyncio.create_task(read_all(source, ring, ranges_in_flight=3))

    for start in (16, 8, 0):
        await until(lambda start=start: start in source.begun)  # type: ignore[misc] # a default binds the loop's value
        source.gates[start].set()

    assert await reading == source.content


async def test_later_ranges_are_under_way_while_the_first_is_hashed() -> None:
    """As many as were asked for, and not one more: that is what bounds the memory."""
    ring = Ring(slots=10)
    source = Source(ring, 10 * RANGE_BYTES)

    async with read_object(source, source.version.address, ring, ranges_in_flight=3) as ranges:
        await anext(ranges)
        await until(lambda: not ring.writing and len(source.begun) == 4)
        for _ in range(10):
            await asyncio.sleep(0)
        begun_ahead = list(source.begun)

    assert begun_ahead == [0, 8, 16, 24]


async def test_a_slow_hasher_holds_the_reader_back_by_its_slots() -> None:
    """The slot is the permit: without a free one no range begins."""
    ring = Ring(slots=2)
    source = Source(ring, 10 * RANGE_BYTES)

    async with read_object(source, source.version.address, ring, ranges_in_flight=8) as ranges:
        held = [await anext(ranges), await anext(ranges)]
        for _ in range(10):
            await asyncio.sleep(0)
        begun = list(source.begun)
        for slot, _ in held:
            ring.release(slot)

    assert begun == [0, 8]


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_many_objects_share_a_small_ring_without_a_deadlock(slots: int) -> None:
    """A range that has its slot needs nothing more, so somebody can always go on."""
    ring = Ring(slots)
    sources = [Source(ring, size_bytes) for size_bytes in range(0, 100, 7)]

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        readings = [group.create_task(read_all(source, ring, ranges_in_flight=4)) for source in sources]

    assert [reading.result() for reading in readings] == [source.content for source in sources]
    assert ring.is_whole


@pytest.mark.parametrize("size_bytes", EDGES)
async def test_entering_pins_the_object_version_before_its_first_range_is_there(size_bytes: int) -> None:
    """So that whoever needs the size has it from the start, and knows it while the bytes come."""
    ring = Ring()
    source = Source(ring, size_bytes)
    source.gates = {0: asyncio.Event()}

    async with read_object(source, source.version.address, ring, ranges_in_flight=2) as ranges:
        version = ranges.version

    assert version is source.version
    assert source.pins == 1


@pytest.mark.parametrize("size_bytes", [1, RANGE_BYTES - 1, RANGE_BYTES])
async def test_an_object_that_fits_a_slot_holds_one(size_bytes: int) -> None:
    """However many ranges might be in flight: others need the slots."""
    ring = Ring()
    source = Source(ring, size_bytes)

    async with read_object(source, source.version.address, ring, ranges_in_flight=4) as ranges:
        free_before = ring.free.qsize()
        slot, _ = await anext(ranges)
        for _ in range(10):
            await asyncio.sleep(0)
        free_after = ring.free.qsize()
        ring.release(slot)

    assert (free_before, free_after) == (RING_SLOTS - 1, RING_SLOTS - 1)
    assert source.begun == [0]


@pytest.mark.parametrize("size_bytes", EDGES)
async def test_a_version_pinned_before_is_read_again_without_a_pin(size_bytes: int) -> None:
    """A second reading is of the very version of the first."""
    ring = Ring()
    source = Source(ring, size_bytes)
    content = bytearray()

    async with read_object(source, source.version, ring, ranges_in_flight=2) as ranges:
        async for slot, length in ranges:
            content += slot.view[:length]
            ring.release(slot)

    assert content == source.content
    assert source.pins == 0
    assert ring.is_whole


async def test_an_object_that_cannot_be_pinned_is_an_error_on_entering() -> None:
    """It comes alone, the slot goes back, and no task is left."""
    ring = Ring()
    source = Source(ring, 2 * RANGE_BYTES)
    source.pin_failure = NoSuchObjectError("s3://b/k")

    with pytest.raises(NoSuchObjectError) as caught:
        await read_all(source, ring, 3)

    assert caught.value is source.pin_failure
    assert ring.is_whole
    assert not others()


async def test_cancellation_before_the_pin_gives_the_slot_back() -> None:
    """Nobody is inside yet who could leave."""
    ring = Ring()
    source = Source(ring, 2 * RANGE_BYTES)
    source.pin_gate.clear()
    reading = asyncio.create_task(read_all(source, ring, 3))
    await until(lambda: source.pins == 1)

    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert ring.is_whole
    assert not others()


@pytest.mark.parametrize("failing_range", [0, 1, 4])
async def test_a_range_that_fails_is_one_error_after_the_ranges_before_it(failing_range: int) -> None:
    """The caller sees a StorageError, never a group, and gets every earlier range first."""
    ring = Ring()
    source = Source(ring, 5 * RANGE_BYTES)
    source.failures = {failing_range * RANGE_BYTES: NoSuchObjectError("s3://b/k")}
    yielded = 0

    with pytest.raises(StorageError) as caught:  # noqa: PT012 - what came before the error is the point
        async with read_object(source, source.version.address, ring, ranges_in_flight=3) as ranges:
            async for slot, _ in ranges:
                yielded += 1
                ring.release(slot)

    assert caught.value is source.failures[failing_range * RANGE_BYTES]
    assert yielded == failing_range
    assert ring.is_whole
    assert not others()


async def test_a_failed_range_fails_again_when_asked_again() -> None:
    """The range behind a hole is never yielded."""
    ring = Ring()
    source = Source(ring, 2 * RANGE_BYTES)
    source.failures = {0: NoSuchObjectError("s3://b/k")}

    async with read_object(source, source.version.address, ring, ranges_in_flight=2) as ranges:
        for _ in range(2):
            with pytest.raises(NoSuchObjectError):
                await anext(ranges)

    assert ring.is_whole


async def test_an_impatient_caller_may_ask_again_and_misses_nothing() -> None:
    """Cancelling one wait for a range loses neither the range nor its place."""
    ring = Ring()
    source = Source(ring, 2 * RANGE_BYTES)
    source.gates = {0: asyncio.Event()}

    async with read_object(source, source.version.address, ring, ranges_in_flight=2) as ranges:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(ranges)
        source.gates[0].set()
        slot, length = await anext(ranges)
        first = bytes(slot.view[:length])
        ring.release(slot)

    assert first == source.content[:RANGE_BYTES]
    assert ring.is_whole


async def test_slots_that_can_no_longer_be_had_are_an_error_of_their_own() -> None:
    """What a ring raises reaches the caller as it is."""

    class ClosedRing(Ring):
        async def acquire(self) -> Slot:
            if self.free.empty():
                raise ConnectionAbortedError
            return await super().acquire()

    ring = ClosedRing(slots=1)
    source = Source(ring, 2 * RANGE_BYTES)

    async with read_object(source, source.version.address, ring, ranges_in_flight=2) as ranges:
        slot, _ = await anext(ranges)
        with pytest.raises(ConnectionAbortedError):
            await anext(ranges)
        ring.release(slot)

    assert ring.is_whole


async def test_the_callers_own_error_is_not_wrapped_and_gives_the_slots_back() -> None:
    """A failing hasher is seen as what it is."""
    ring = Ring()
    source = Source(ring, 10 * RANGE_BYTES)

    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error is raised inside on purpose
        async with read_object(source, source.version.address, ring, ranges_in_flight=3) as ranges:
            slot, _ = await anext(ranges)
            ring.release(slot)
            raise ZeroDivisionError

    assert ring.is_whole
    assert not others()


async def test_leaving_early_keeps_the_slots_that_were_yielded() -> None:
    """They are the caller's; only the others go back."""
    ring = Ring()
    source = Source(ring, 10 * RANGE_BYTES)

    async with read_object(source, source.version.address, ring, ranges_in_flight=2) as ranges:
        mine, _ = await anext(ranges)

    assert ring.free.qsize() == RING_SLOTS - 1
    assert bytes(mine.view) == source.content[:RANGE_BYTES]


@pytest.mark.parametrize("hanging_range", [0, 1, 2, 9])
async def test_cancellation_gives_every_slot_back_and_leaves_no_task(hanging_range: int) -> None:
    """Wherever it lands: no slot is released while a read still writes into it (the ring looks)."""
    ring = Ring()
    source = Source(ring, 10 * RANGE_BYTES)
    source.gates = {hanging_range * RANGE_BYTES: asyncio.Event()}
    reading = asyncio.create_task(read_all(source, ring, ranges_in_flight=3))
    await until(lambda: hanging_range * RANGE_BYTES in source.begun)

    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert ring.is_whole
    assert not others()


@pytest.mark.parametrize("turns", range(25))
async def test_cancellation_at_any_turn_of_the_loop_gives_every_slot_back(turns: int) -> None:
    """Also between the waits that a test can name."""
    ring = Ring(slots=2)
    source = Source(ring, 3 * RANGE_BYTES)
    reading = asyncio.create_task(read_all(source, ring, ranges_in_flight=2))
    for _ in range(turns):
        await asyncio.sleep(0)

    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled() or reading.result() == source.content
    assert ring.is_whole
    assert not others()


async def test_cancellation_while_waiting_for_a_slot_leaves_the_ring_as_it_was() -> None:
    """A reader that never got a slot has none to give back."""
    ring = Ring(slots=1)
    taken = await ring.acquire()
    source = Source(ring, RANGE_BYTES)
    reading = asyncio.create_task(read_all(source, ring, ranges_in_flight=1))
    await until(lambda: bool(ring.free._getters))  # type: ignore[attr-defined] # a queue shows who waits in no other way

    reading.cancel()
    await asyncio.wait([reading])
    ring.release(taken)

    assert ring.is_whole
    assert not source.begun
    assert not others()


def test_a_reader_without_a_range_in_flight_is_refused() -> None:
    """It would wait for ever."""
    ring = Ring()
    source = Source(ring, 1)

    with pytest.raises(ValueError, match="in flight"):
        read_object(source, source.version.address, ring, ranges_in_flight=0)


async def test_a_reader_shows_where_it_is() -> None:
    """For logs, tests and people."""
    ring = Ring()
    source = Source(ring, 2 * RANGE_BYTES)

    reader = read_object(source, source.version.address, ring, ranges_in_flight=1)

    assert repr(reader) == "<read_object s3://b/k: not pinned, 0 ranges under way>"
    async with reader:
        assert repr(reader) == "<read_object s3://b/k: 16 bytes unread, 1 ranges under way>"
