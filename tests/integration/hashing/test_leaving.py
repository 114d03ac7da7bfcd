"""A session that is left in the middle gives everything back."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from worker.hashing.algorithms import ALGORITHMS, Algorithm
from worker.hashing.errors import HasherFailedError
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve

HashObject = Callable[..., Awaitable[dict[str, bytes]]]
AllSlotsFree = Callable[[LanePool], Awaitable[None]]
Pattern = Callable[[int], bytes]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def _signal_lanes(pool: LanePool, number: signal.Signals) -> None:
    for pid in pool.lane_pids:
        os.kill(pid, number)


async def test_a_slot_does_not_come_back_while_a_lane_may_still_read_it(
    pool: LanePool, all_slots_free: AllSlotsFree, hash_object: HashObject, pattern: Pattern, until: Until
) -> None:
    """The lanes are frozen with pieces in hand while their session is cancelled."""
    all_fed = asyncio.Event()

    async def feed_and_wait() -> None:
        async with pool.open_session(resolve(ALGORITHMS)) as session:
            for _ in range(8):
                session.feed(await pool.slots.acquire(), 4096)
            all_fed.set()
            await session.digests()

    _signal_lanes(pool, signal.SIGSTOP)
    task = asyncio.create_task(feed_and_wait())
    await all_fed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert pool.slots.held_count > 0
    _signal_lanes(pool, signal.SIGCONT)
    await all_slots_free(pool)
    data = pattern(20_000)
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)
    await until(lambda: repr(pool) == "<LanePool 2 lanes, 0 sessions, <SlotRing 8 free, 0 held>>")


@pytest.mark.parametrize("pieces", [0, 1, 8])
async def test_an_exception_in_the_block_gives_every_slot_back(
    pool: LanePool, all_slots_free: AllSlotsFree, pieces: int
) -> None:
    """Whatever goes wrong while reading is not the ring's loss."""

    async def read_and_fail() -> None:
        async with pool.open_session(resolve(ALGORITHMS), 100_000) as session:
            for _ in range(pieces):
                session.feed(await pool.slots.acquire(), 4096)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await read_and_fail()

    await all_slots_free(pool)
    assert pool.slots.free_count == 8


async def test_cells_and_hashers_do_not_leak_however_often_sessions_are_left(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, until: Until
) -> None:
    """A hundred sessions left in mid-flight leave the pool as they found it."""
    before = repr(pool._scheduler)
    for _ in range(100):
        async with pool.open_session(resolve(ALGORITHMS)) as session:
            session.feed(await pool.slots.acquire(), 4096)

    data = pattern(20_000)
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)
    await until(lambda: repr(pool._scheduler) == before)


async def test_a_hasher_that_fails_costs_its_own_session_only(
    pool: LanePool, all_slots_free: AllSlotsFree, hash_object: HashObject, pattern: Pattern
) -> None:
    """The other session in the same lanes gets its digests."""
    broken = Algorithm("broken", "Broken", 8, ALGORITHMS["md5"].new, seconds_per_gb=1)
    data = pattern(30_000)

    async def hash_broken() -> None:
        async with pool.open_session([broken, *resolve(["md5"])]) as session:
            session.feed(await pool.slots.acquire(), 4096)
            await session.digests()

    failed, digests = await asyncio.gather(hash_broken(), hash_object(pool, data), return_exceptions=True)

    assert isinstance(failed, HasherFailedError)
    assert (failed.code, failed.algorithm) == ("hasher_failed", "broken")
    assert digests == hash_bytes(data, ALGORITHMS)
    await all_slots_free(pool)
