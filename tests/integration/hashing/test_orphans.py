"""Nothing outlives the worker, and a worker that was frozen goes on."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from worker.hashing.lane_process import LaneProcess
from worker.hashing.memory import SharedMemory

Until = Callable[[Callable[[], bool]], Awaitable[None]]

_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone kills a stopped child")

_WORKER = """
import asyncio, hashlib
from worker.hashing.registry import resolve
from worker.hashing.lanes import LanePool

NAMES = ["md5", "sha1", "sha256"]
PIECE = bytes(range(256)) * 256
RIGHT = {name: hashlib.new(name, PIECE * 50).digest() for name in NAMES}

async def main():
    async with LanePool(lane_count=2, slot_count=4, slot_bytes=65536, answer_seconds=0.5) as pool:
        print(*pool.lane_pids, flush=True)
        while True:
            async with pool.open_session(resolve(NAMES)) as session:
                for _ in range(50):
                    slot = await pool.slots.acquire()
                    slot.view[:] = PIECE
                    session.feed(slot, 65536)
                print("right" if await session.digests() == RIGHT else "WRONG", flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def _running_worker(folder: Path) -> AsyncIterator[tuple[Process, list[int], asyncio.StreamReader]]:
    """Run a worker that hashes on and on; gives its process, its lanes' ids and what it prints."""
    command = (sys.executable, "-c", _WORKER)
    worker = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=PIPE, stderr=PIPE)
    assert worker.stdout is not None
    try:
        lanes = [int(pid) for pid in (await worker.stdout.readline()).split()]
        assert await worker.stdout.readline() == b"right\n"
        yield worker, lanes, worker.stdout
    finally:
        with suppress(ProcessLookupError):
            worker.kill()
        await worker.communicate()


async def _next_results(printed: asyncio.StreamReader) -> set[bytes]:
    """Read what the worker says of its next 30 objects; between that it logs."""
    results: list[bytes] = []
    while len(results) < 30:
        line = await printed.readline()
        assert line, "the worker has ended"
        results += [line] * (line in {b"right\n", b"WRONG\n"})
    return set(results)


async def test_a_worker_killed_in_the_middle_leaves_no_lane(tmp_path: Path) -> None:
    """Every lane inherits the worker's standard error, which therefore ends when the last of them has."""
    async with _running_worker(tmp_path) as (worker, _, _):
        worker.kill()

        assert worker.stderr is not None
        async with asyncio.timeout(30):
            assert await worker.stderr.read() == b""
            assert await worker.wait() == -signal.SIGKILL


@pytest.fixture
def adopted_orphans() -> Iterator[None]:
    """Be the new parent of whatever loses its own; in the same session the system wakes no stopped orphan."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(0))


@linux
async def test_a_stopped_lane_dies_with_its_killed_worker(
    tmp_path: Path, until: Until, adopted_orphans: None
) -> None:
    """A lane that can't see the end of its socket is killed by the system."""
    ends: dict[int, int] = {}

    def is_gone(pid: int) -> bool:
        with suppress(ChildProcessError):  # not ours yet
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                ends[pid] = os.waitstatus_to_exitcode(status)
        return pid in ends

    async with _running_worker(tmp_path) as (worker, lanes, _):
        os.kill(lanes[0], signal.SIGSTOP)
        worker.kill()

        try:
            await until(lambda: all(is_gone(pid) for pid in lanes))
        finally:
            if lanes[0] not in ends:
                os.kill(lanes[0], signal.SIGKILL)

    assert ends[lanes[0]] == -signal.SIGKILL


@linux
def test_a_lane_dies_with_the_thread_that_started_it() -> None:
    """So a pool has to be started in a thread that lives as long as the pool."""
    memory = SharedMemory.create(cell_count=1, slot_count=1, slot_bytes=1)
    started: list[LaneProcess] = []

    def start() -> None:
        lane = LaneProcess(0, memory)
        started.append(lane)
        lane.socket.settimeout(30)
        lane.receive()  # it is up

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    try:
        with pytest.raises(EOFError):
            started[0].receive()
    finally:
        exit_status = started[0].bury()
        memory.close()
    assert exit_status == -signal.SIGKILL


def test_a_lane_whose_parent_is_gone_before_it_is_up_ends_at_once() -> None:
    """It has another parent by then than the one that it was started for."""
    command = [sys.executable, "-m", "worker.hashing.lane", "0", *"99999"]

    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("first", ["worker", "lanes"])
async def test_a_worker_that_was_frozen_and_thawed_goes_on_with_right_digests(
    tmp_path: Path, first: str
) -> None:
    """A lane that is taken for frozen only because all of them were costs time and nothing else."""
    async with _running_worker(tmp_path) as (worker, lanes, printed):
        pids = [worker.pid, *lanes]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(1)  # not to wait for anything: twice the time that a lane may be silent passes
        for pid in pids if first == "worker" else reversed(pids):
            os.kill(pid, signal.SIGCONT)

        assert await _next_results(printed) == {b"right\n"}


async def test_lanes_that_stay_frozen_when_their_worker_is_thawed_are_replaced(tmp_path: Path) -> None:
    """The worker goes on with new ones."""
    async with _running_worker(tmp_path) as (worker, lanes, printed):
        for pid in (worker.pid, *lanes):
            os.kill(pid, signal.SIGSTOP)
        os.kill(worker.pid, signal.SIGCONT)

        assert await _next_results(printed) == {b"right\n"}
