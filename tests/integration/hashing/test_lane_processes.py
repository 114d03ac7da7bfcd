"""Lanes as processes: how they start, what they inherit, and how they end."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from worker.hashing.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS
from worker.hashing.errors import LaneDiedError
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve

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

    async with pool.open_session(resolve(DEFAULT_ALGORITHMS)) as session:
        session.feed(await pool.slots.acquire(), 4096)
        await pool.aclose()
        with pytest.raises(LaneDiedError):
            await session.digests()

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
