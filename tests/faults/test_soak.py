"""A worker that has run a thousand jobs is as it was after the first hundred."""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import MiB
from tests.support.fault_worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True)
class Sample:
    """What a worker and its lanes hold.

    Args:
        memory_bytes: Anonymous memory: what nobody shares, so no other process changes it by its end.
        descriptors: Open files and sockets.
        threads: Of all processes.
        shared_bytes: Mapped anonymous shared memory, the slots.
    """

    memory_bytes: int
    descriptors: int
    threads: int
    shared_bytes: int


def sample(worker: Worker) -> Sample:
    """Look at a worker now."""
    assert worker.pid
    processes = [Path(f"/proc/{pid}") for pid in (worker.pid, *worker.descendants())]
    return Sample(
        memory_bytes=sum(_anonymous_bytes(process) for process in processes),
        descriptors=sum(len(list((process / "fd").iterdir())) for process in processes),
        threads=sum(len(list((process / "task").iterdir())) for process in processes),
        shared_bytes=sum(_memfd_bytes(process) for process in processes),
    )


def _anonymous_bytes(process: Path) -> int:
    lines = (process / "smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def _memfd_bytes(process: Path) -> int:
    total_bytes = 0
    for line in (process / "maps").read_text(encoding="utf-8").splitlines():
        if "/memfd:" in line:
            start, end = line.split()[0].split("-")
            total_bytes += int(end, 16) - int(start, 16)
    return total_bytes


@pytest.mark.slow
async def test_a_thousand_jobs_leave_nothing_behind_in_their_worker(scenario: Scenario) -> None:
    """Memory, descriptors, threads and shared memory are flat: nine hundred leaks would be seen."""
    # Without proxies, whose work would be most of it.
    storage = f"STORAGES__{scenario.platform.storage_id}__ENDPOINT_URL"
    worker = await scenario.worker(
        {
            "API__ALLOWED_HOSTS": json.dumps([urlsplit(scenario.platform.api_url).netloc]),
            storage: scenario.platform.s3_endpoint,
        }
    )
    files = (await scenario.new_job(*range(0, 5000, 500))).files
    scenario.jobs.clear()
    samples = []

    for count in (100, 500, 1000):
        while len(scenario.jobs) < count:
            job = scenario.job_over([files[len(scenario.jobs) % len(files)]])
            job.payload["api"]["url"] = scenario.platform.api_url
            await scenario.enqueue(job)
        await scenario.ended(within_seconds=240)
        await scenario.queue_is_empty()
        samples.append(sample(worker))

    await scenario.judged()
    first, last = samples[0], samples[-1]
    assert last.memory_bytes - first.memory_bytes < 10 * MiB, samples
    assert last.descriptors - first.descriptors < 5, samples  # pools of connections breathe
    assert last.threads - first.threads < 4, samples  # the pool starts its four as they are needed
    assert last.shared_bytes == first.shared_bytes > 0, samples
