"""A small pool, test data, and the way an object goes through a session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import pytest

from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.lanes import LanePool
from worker.hashing.registry import resolve


@pytest.fixture
async def pool() -> AsyncIterator[LanePool]:
    """Two lanes and eight slots of 4 KiB."""
    async with LanePool(lane_count=2, slot_count=8, slot_bytes=4096) as pool:
        yield pool


@pytest.fixture
def pattern() -> Callable[[int], bytes]:
    """Give so many bytes with period 251, a prime: two slots that change places change the digest."""

    def make(size: int) -> bytes:
        return bytes(range(251)) * (size // 251) + bytes(range(size % 251))

    return make


@pytest.fixture
def hash_object() -> Callable[..., Awaitable[dict[str, bytes]]]:
    """Send an object through a session, slot by slot, and give its digests."""

    async def hash_object(
        pool: LanePool, data: bytes, names: Iterable[str] = tuple(ALGORITHMS), size_bytes: int | None = None
    ) -> dict[str, bytes]:
        async with pool.open_session(resolve(names), size_bytes) as session:
            for start in range(0, len(data), pool.slots.slot_bytes):
                piece = data[start : start + pool.slots.slot_bytes]
                slot = await pool.slots.acquire()
                slot.view[: len(piece)] = piece
                session.feed(slot, len(piece))
            return await session.digests()

    return hash_object


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for something that the pool tells nobody, half a minute at most."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 -- there is no event to wait for
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def all_slots_free() -> Callable[[LanePool], Awaitable[None]]:
    """Wait until no lane reads any slot, by holding all of them at once."""

    async def wait(pool: LanePool) -> None:
        for slot in [await pool.slots.acquire() for _ in range(pool.slots.count)]:
            pool.slots.release(slot)

    return wait
