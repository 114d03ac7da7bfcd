"""Lanes as processes: how they start, die, are replaced and end."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.hashing import lanes
from worker.hashing.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS, resolve
from worker.hashing.errors import LaneDiedError
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes

HashObject = Callable[..., Awaitable[dict[str, bytes]]]
AllSlotsFree = Callable[[LanePool], Awaitable[None]]
Pattern = Callable[[int], bytes]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _hash_one_slot(pool: LanePool, names: Iterable[str], then: Callable[[], Awaitable[None]]) -> None:
    """Feed a slot, do something to the lanes, and ask for the digests."""
    async with pool.open_session(resolve(names)) as session:
        session.feed(await pool.slots.acquire(), 4096)
        await then()
        await session.digests()


async def test_a_lane_killed_with_work_in_hand_fails_its_session_and_is_replaced(
    pool: LanePool, all_slots_free: AllSlotsFree, hash_object: HashObject, pattern: Pattern
) -> None:
    """The session learns it, its slots come back, and the pool goes on with as many lanes as before."""
    before = pool.lane_pids
    os.kill(before[0], signal.SIGSTOP)  # so that it still has its work when it dies

    async def kill() -> None:
        os.kill(before[0], signal.SIGKILL)

    with pytest.raises(LaneDiedError, match="killed by signal 9") as caught:
        await _hash_one_slot(pool, DEFAULT_ALGORITHMS, then=kill)

    assert (caught.value.code, caught.value.pid, caught.value.exit_status) == ("lane_died", before[0], -9)
    assert pool.lane_pids[0] != before[0]
    assert pool.lane_pids[1] == before[1]
    await all_slots_free(pool)
    data = pattern(100_000)
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)


async def test_reading_on_after_a_lane_died_fails_at_the_next_piece(pool: LanePool, until: Until) -> None:
    """A reader does not read a terabyte for a session that has failed already."""
    before = pool.lane_pids
    async with pool.open_session(resolve(DEFAULT_ALGORITHMS)) as session:
        os.kill(before[0], signal.SIGSTOP)
        session.feed(await pool.slots.acquire(), 4096)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: pool.lane_pids[0] != before[0])
        slot = await pool.slots.acquire()

        with pytest.raises(LaneDiedError):
            session.feed(slot, 4096)


async def test_sessions_that_had_nothing_in_the_dead_lane_go_on(
    pool: LanePool, all_slots_free: AllSlotsFree, pattern: Pattern, until: Until
) -> None:
    """A context in shared memory outlives every lane, even all of them at once."""
    data = pattern(8192)
    names = ["md5", "sha256", "crc32c"]
    before = pool.lane_pids
    async with pool.open_session(resolve(names)) as session:
        slot = await pool.slots.acquire()
        slot.view[:] = data[:4096]
        session.feed(slot, 4096)
        await all_slots_free(pool)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not set(before) & set(pool.lane_pids))
        slot = await pool.slots.acquire()
        slot.view[:] = data[4096:]
        session.feed(slot, 4096)
        digests = await session.digests()

    assert digests == hash_bytes(data, names)


async def test_a_hasher_that_lived_in_the_dead_lane_fails_its_session(
    pool: LanePool, all_slots_free: AllSlotsFree
) -> None:
    """BLAKE3's state is gone with its lane: an error, never a digest of the rest."""

    async def kill_idle_lanes() -> None:
        await all_slots_free(pool)
        for pid in pool.lane_pids:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(LaneDiedError):
        await _hash_one_slot(pool, ["blake3"], then=kill_idle_lanes)


async def test_a_lane_leaves_signals_to_its_parent(pool: LanePool, hash_object: HashObject) -> None:
    """Ctrl-C, or a service manager that signals everybody, must not end a lane before its parent says so."""
    before = pool.lane_pids
    for pid in before:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)

    assert await hash_object(pool, b"abc") == hash_bytes(b"abc", ALGORITHMS)
    assert pool.lane_pids == before


async def test_after_closing_no_process_no_descriptor_and_no_session_is_left() -> None:
    """A pool leaves nothing behind, not even with frozen lanes and a session in mid-flight."""
    pool = LanePool(lane_count=3, slot_count=2, slot_bytes=4096)
    await pool.start()
    pids = pool.lane_pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    with pytest.raises(LaneDiedError):
        await _hash_one_slot(pool, DEFAULT_ALGORITHMS, then=pool.aclose)

    assert not any(map(_is_alive, pids))
    assert repr(pool) == "<LanePool 0 lanes, 0 sessions, <SlotRing 2 free, 0 held>>"
    await pool.aclose()


async def test_pools_come_and_go_without_leaving_a_descriptor(hash_object: HashObject) -> None:
    """The shared memory goes with its last view, the sockets with their lanes."""

    async def open_descriptors() -> int:
        async with LanePool(lane_count=2, slot_count=2, slot_bytes=4096) as pool:
            await hash_object(pool, b"abc", DEFAULT_ALGORITHMS)
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 -- names are all we count

    assert await open_descriptors() == await open_descriptors()


async def test_a_pool_that_does_not_run_opens_no_session() -> None:
    """Nobody waits for digests from lanes that are not there."""
    pool = LanePool(lane_count=1, slot_count=1, slot_bytes=1)

    with pytest.raises(RuntimeError, match="not started, or was closed"):
        async with pool.open_session(resolve(["md5"])):
            pass
    await pool.aclose()


def test_a_pool_without_lanes_is_an_error() -> None:
    """It would never hash anything."""
    with pytest.raises(ValueError, match="at least 1"):
        LanePool(lane_count=0, slot_count=1, slot_bytes=1)


async def test_lanes_that_never_come_up_are_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation shows at once, not as a job that waits for ever."""
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(LaneDiedError, match=r"exit status 1.*no other could be started"):
        async with LanePool(lane_count=2, slot_count=1, slot_bytes=1):
            pass


async def test_an_interpreter_that_is_gone_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a system that gives no more processes."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    with pytest.raises(FileNotFoundError, match="/no/such/python"):
        await LanePool(lane_count=2, slot_count=1, slot_bytes=1).start()


@pytest.fixture
def no_more_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let every start of a lane fail from here on, until it is undone; starts are tried again soon."""
    monkeypatch.setattr(lanes, "_PAUSE_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/such/python")
        yield patch


async def test_a_lane_that_cannot_be_replaced_yet_costs_only_the_sessions_bound_to_it(
    pool: LanePool,
    until: Until,
    hash_object: HashObject,
    pattern: Pattern,
    no_more_processes: pytest.MonkeyPatch,
) -> None:
    """The others go on, new ones find the lanes that live, and the lane comes back when that can be."""
    data = pattern(20_000)
    before = pool.lane_pids
    async with (
        pool.open_session(resolve(["md5"])) as moves,
        pool.open_session(resolve(["blake3"])) as is_bound,
    ):
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: pool.lane_pids == before[1:])

        with pytest.raises(LaneDiedError, match=f"lane {before[0]} ended"):
            await is_bound.digests()
        assert await moves.digests() == hash_bytes(b"", ["md5"])
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


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_lane_does_not_inherit_the_workers_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads a lane's environment finds no key there."""
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", "redis://:hush-1@host/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-2")
    monkeypatch.setenv("HARMLESS", "seen")

    async with LanePool(lane_count=1, slot_count=1, slot_bytes=1) as pool:
        process = Path(f"/proc/{pool.lane_pids[0]}")
        environment = await asyncio.to_thread((process / "environ").read_text, encoding="utf-8")

    assert "HARMLESS=seen" in environment
    assert "hush" not in environment


async def test_a_lane_takes_no_module_from_the_current_folder(
    hash_object: HashObject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody may hash a folder that has a package called worker, or a socket.py, in it."""
    (tmp_path / "worker").mkdir()
    for name in ("worker/__init__.py", "socket.py", "struct.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from the current folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])

    async with LanePool(lane_count=1, slot_count=1, slot_bytes=10) as pool:
        assert await hash_object(pool, b"abc") == hash_bytes(b"abc", ALGORITHMS)


_PARENT = """
import asyncio, sys
from worker.hashing.algorithms import ALGORITHMS, resolve
from worker.hashing.lanes import LanePool

async def main():
    async with LanePool(lane_count=2, slot_count=4, slot_bytes=65536) as pool:
        async with pool.open_session(resolve(ALGORITHMS)) as session:
            for number in range(10**9):
                session.feed(await pool.slots.acquire(), 65536)
                if number == 10:
                    print("hashing", flush=True)

asyncio.run(main())
"""


async def test_a_parent_killed_in_the_middle_leaves_no_lane(tmp_path: Path) -> None:
    """Every lane inherits the parent's standard error, which therefore ends when the last of them has."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-c", _PARENT)
    parent = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=pipe, stderr=pipe)
    assert parent.stdout is not None
    assert parent.stderr is not None
    assert await parent.stdout.readline() == b"hashing\n"

    parent.kill()

    async with asyncio.timeout(30):
        assert await parent.stderr.read() == b""
        assert await parent.wait() == -signal.SIGKILL
