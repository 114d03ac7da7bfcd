"""A machine without the memory that was asked for, and where the memory is."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from worker.hashing.algorithms import DEFAULT_ALGORITHMS
from worker.hashing.lanes import LanePool

HashObject = Callable[..., Awaitable[dict[str, bytes]]]

_POOL_WITH_LIMIT = """
import asyncio, resource, sys
from worker.hashing.errors import SharedMemoryError
from worker.hashing.lanes import LanePool

async def main():
    async with LanePool(lane_count=1, slot_count=1024, slot_bytes=1 << 20):
        pass

limit = getattr(resource, sys.argv[1])
resource.setrlimit(limit, (512 << 20, 512 << 20))
try:
    asyncio.run(main())
except SharedMemoryError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", ["RLIMIT_FSIZE", "RLIMIT_AS"])
def test_memory_that_the_system_refuses_is_an_error_at_the_start_that_says_what_to_change(limit: str) -> None:
    """Never a SIGBUS in the middle of a job."""
    command = [sys.executable, "-c", _POOL_WITH_LIMIT, limit]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("The system gives no 1073741824 bytes of shared memory for 1024 slots of ")
    assert "make hashing.slots or hashing.slot_bytes smaller" in ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file may take its room as it grows")
async def test_a_pool_that_has_started_has_all_its_memory(pool: LanePool) -> None:
    """What the machine has not got shows before the first job."""
    taken_bytes = os.fstat(pool._memory.descriptor).st_blocks * 512

    assert taken_bytes >= pool.slots.count * pool.slots.slot_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_no_file_in_dev_shm_is_used(pool: LanePool, hash_object: HashObject) -> None:
    """Docker's 64 MB do not matter, and no kill leaves anything behind there."""
    await hash_object(pool, bytes(100_000), DEFAULT_ALGORITHMS)

    def files_of(pid: int) -> set[str]:
        process = Path(f"/proc/{pid}")
        mapped = {
            line.split(maxsplit=5)[5] for line in (process / "maps").read_text().splitlines() if "/" in line
        }
        return mapped | {str(link.readlink()) for link in (process / "fd").iterdir() if link.is_symlink()}

    for pid in (os.getpid(), *pool.lane_pids):
        files = await asyncio.to_thread(files_of, pid)
        assert any(name.startswith("/memfd:hash-worker") for name in files)
        assert not any(name.startswith("/dev/shm") for name in files)  # noqa: S108 -- to see that it is not used
