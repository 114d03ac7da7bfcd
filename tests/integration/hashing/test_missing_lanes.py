"""Lanes that the system does not give back for a while."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from worker.hashing import lanes
from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.errors import LaneDiedError
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve

HashObject = Callable[..., Awaitable[dict[str, bytes]]]
AllSlotsFree = Callable[[LanePool], Awaitable[None]]
Pattern = Callable[[int], bytes]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def no_more_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let every start of a lane fail from here on, until it is undone; starts are tried again soon."""
    monkeypatch.setattr(lanes, "_PAUSE_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/such/python")
        yield patch


async def test_a_lane_that_cannot_be_replaced_yet_costs_only_the_sessions_with_a_state_in_it(
    pool: LanePool,
    all_slots_free: AllSlotsFree,
    until: Until,
    hash_object: HashObject,
    pattern: Pattern,
    no_more_processes: pytest.MonkeyPatch,
) -> None:
    """The others go on, new ones find the lanes that live, and the lane comes back when that can be."""
    data = pattern(20_000)
    before = pool.lane_pids
    async with (
        pool.open_session(resolve(["blake3"])) as has_state,
        pool.open_session(resolve(["md5"])) as moves,
        pool.open_session(resolve(["sha3-256", "blake2b"])) as waits,
    ):
        has_state.feed(await pool.slots.acquire(), 4096)
        await all_slots_free(pool)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: pool.lane_pids == before[1:])

        with pytest.raises(LaneDiedError, match=f"lane {before[0]} ended"):
            await has_state.digests()
        assert await moves.digests() == hash_bytes(b"", ["md5"])
        assert await waits.digests() == hash_bytes(b"", ["sha3-256", "blake2b"])
        assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)
    no_more_processes.undo()
    await until(lambda: len(pool.lane_pids) == 2)
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)


async def test_without_any_lane_every_session_fails_until_one_can_be_started(
    pool: LanePool, until: Until, hash_object: HashObject, no_more_processes: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a lane that may never come, and nothing is lost for ever when lanes go one by one."""
    loop_errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))

    before = pool.lane_pids
    async with pool.open_session(resolve(["md5"])) as session:
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: pool.lane_pids == before[1:])
        os.kill(before[1], signal.SIGKILL)
        await until(lambda: pool.lane_pids == ())

        with pytest.raises(LaneDiedError, match="no other could be started"):
            await session.digests()
    with pytest.raises(LaneDiedError, match="no other could be started"):
        await hash_object(pool, b"abc")
    no_more_processes.undo()
    await until(lambda: "2 lanes" in repr(pool) and pool._failure is None)
    assert await hash_object(pool, b"abc") == hash_bytes(b"abc", ALGORITHMS)
    await pool.aclose()
    assert loop_errors == []


async def test_a_pool_that_is_closed_starts_no_lane_any_more(
    pool: LanePool, until: Until, no_more_processes: pytest.MonkeyPatch
) -> None:
    """A lane that was to be tried again is not."""
    os.kill(pool.lane_pids[0], signal.SIGKILL)
    await until(lambda: len(pool.lane_pids) == 1)
    await pool.aclose()
    no_more_processes.undo()
    loop_errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    await asyncio.sleep(0.05)

    assert (pool.lane_pids, loop_errors) == ((), [])
