"""One job of two thousand files on four workers, one of which is killed half-way."""

import asyncio
import hashlib
import json
from urllib.parse import urlsplit

import pytest

from tests.support.fault_judge import StandFile
from tests.support.fault_scenario import Scenario, pattern
from tests.support.fault_stand import KiB, MiB

pytestmark = pytest.mark.asyncio(loop_scope="session")

_FILES = 2000
_ALGORITHMS = ("md5", "sha256")
# A handful of large ones, some of a few ranges, and many that are small or empty.
_LARGE_BYTES = (64 * MiB, 40 * MiB, 20 * MiB, 16 * MiB + 1, 8 * MiB)
_MIDDLE_BYTES = (MiB, MiB + 1, 2 * MiB - 1, 3 * MiB) * 10
_UPLOADS_AT_ONCE = 8


@pytest.mark.slow
@pytest.mark.timeout(600)  # with four other scenarios on two cores it takes several times as long as alone
async def test_two_thousand_files_on_four_workers_of_which_one_is_killed_half_way(scenario: Scenario) -> None:
    """Every file is hashed and told once, the job ends once, and no batch is lost."""
    files = await files_of(scenario, sizes_bytes(scenario))
    # Without proxies, whose work would be most of it.
    storage = f"STORAGES__{scenario.platform.storage_id}__ENDPOINT_URL"
    settings = {
        "API__ALLOWED_HOSTS": json.dumps([urlsplit(scenario.platform.api_url).netloc]),
        "API__TIMEOUT_SECONDS": 30,
        "READING__STALL_TIMEOUT_SECONDS": 30,
        "HASHING__LANES": 1,
        "HASHING__SLOT_BYTES": 8 * MiB,  # the S3 server reads a whole object for each range
        "WORKER__BATCH_FILES": 40,
        "WORKER__BATCH_BYTES": 16 * MiB,
        storage: scenario.platform.s3_endpoint,
    }
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(scenario.worker(settings))
    job = scenario.job_over(files)
    job.payload["api"]["url"] = scenario.platform.api_url
    job.payload["function_params"]["algorithms"] = list(_ALGORITHMS)

    await scenario.enqueue(job)
    await scenario.in_mid_job(job, _FILES // 2, within_seconds=300)
    scenario.workers[0].kill()

    await scenario.judged(within_seconds=400)
    assert await scenario.books.count(job, "batches") > _FILES / 40
    assert all("the batch is done" in worker.log for worker in scenario.living)
    assert len(scenario.living) == 3


def sizes_bytes(scenario: Scenario) -> list[int]:
    """Choose the sizes, in an order of chance."""
    small = scenario.random.choices((0, 1, 251, 4 * KiB, 64 * KiB), k=_FILES)
    sizes = [*_LARGE_BYTES, *_MIDDLE_BYTES, *small][:_FILES]
    scenario.random.shuffle(sizes)
    return sizes


async def files_of(scenario: Scenario, sizes: list[int]) -> list[StandFile]:
    """Put files of these sizes on the platform, several at once, no two alike but the smallest."""
    platform, permits = scenario.platform, asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def put(number: int, size_bytes: int) -> StandFile:
        key = f"{scenario.folder_path[1:]}/{number}"
        async with permits:
            content = await asyncio.to_thread(pattern, f"{number:016x}", size_bytes)
            await platform.s3._started().put_object(Bucket=platform.bucket, Key=key, Body=content)
            digests = {name: hashlib.new(name, content).hexdigest() for name in _ALGORITHMS}
        file_id = platform.store.add_file(platform.container_id, f"/{key}", size_bytes=size_bytes)
        return StandFile(file_id, f"/{platform.bucket}/{key}", size_bytes, digests)

    return await asyncio.gather(*(put(number, size) for number, size in enumerate(sizes)))
