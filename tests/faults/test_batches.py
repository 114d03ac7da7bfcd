"""Planners, workers and the broker die, freeze and are stopped while a job is spread over its batches."""

import asyncio
import signal
from dataclasses import replace

import pytest
from aiohttp import web

from tests.support.fault_broker import name_of
from tests.support.fault_http import RESET, Answer, Relay
from tests.support.fault_judge import StandJob, applied
from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import SMALL_BATCHES, KiB

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Six batches of some seconds each at 256 KiB/s, of which a worker has three at a time.
_SIZES_BYTES = [256 * KiB, 1, 256 * KiB + 1, 0, 128 * KiB] * 6
_LONG_VISIBILITY = {**SMALL_BATCHES, "BROKER__VISIBILITY_TIMEOUT_SECONDS": 600}


async def run_spread(scenario: Scenario) -> StandJob:
    """Run a job of six batches on a slow storage, and wait until it is in the middle of some."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    job = await scenario.run(*_SIZES_BYTES)
    await scenario.in_mid_job(job)
    return job


async def test_a_planner_that_is_killed_is_followed_by_one_that_goes_on(scenario: Scenario) -> None:
    """It has added some batches; the other begins behind them, so that no file is planned twice or left."""
    store, container_id = scenario.platform.store, scenario.platform.container_id
    store.add_file(container_id, scenario.folder_path, size_bytes=0, kind="FOLDER")
    files = []
    for page in range(4):
        files += [await scenario.new_file(size) for size in range(6)]
        # What is not under the folder fills the pages of the list.
        for number in range(1000):
            store.add_file(container_id, f"/beside{scenario.folder_path}/{page}-{number}", size_bytes=1)

    async def slowly(_: web.BaseRequest) -> Relay:
        await asyncio.sleep(1)
        return Relay()

    scenario.stand.api.on("slow list", lambda request: request.path.endswith("/file/list"), slowly)
    first = await scenario.worker(SMALL_BATCHES)
    job = scenario.job_over(files, paths=[scenario.folder_path])

    await scenario.enqueue(job)
    await scenario.counted(lambda: scenario.books.count(job, "batches"), 2, "batches")
    first.kill()
    assert not await scenario.books.count(job, "planned"), "the planner was too fast"
    await scenario.worker(SMALL_BATCHES)

    await scenario.judged()


@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_that_are_killed_in_mid_batch_are_replaced(scenario: Scenario, workers: int) -> None:
    """Also if they were all that there were; what they had told of their batches stays told."""
    for _ in range(workers):
        await scenario.worker(SMALL_BATCHES)
    await run_spread(scenario)

    for worker in scenario.living:
        worker.kill()
    await scenario.worker(SMALL_BATCHES)

    await scenario.judged()


async def test_a_batch_that_is_done_and_not_told_is_delivered_by_another_worker(scenario: Scenario) -> None:
    """Its end was safe in the broker when its worker was killed, the platform away; no byte is read again."""
    scenario.stand.s3.bytes_per_second = 128 * KiB
    settings = {**SMALL_BATCHES, "WORKER__FILES_AT_ONCE": 5}
    first = await scenario.worker(settings)
    job = await scenario.run(*[384 * KiB] * 15)
    await scenario.in_mid_object(job, 15 * 64 * KiB)

    await scenario.stand.api.refuse()
    await scenario.counted(scenario.books.ends_of_batches, 3, "ends of batches")
    first.kill()
    await first.wait()
    await scenario.stand.api.accept()
    await scenario.worker(settings)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def test_a_job_whose_last_batch_is_settled_is_ended_by_another_worker(scenario: Scenario) -> None:
    """Its worker was killed before it could put the end."""
    first = await scenario.worker(SMALL_BATCHES)
    job = await run_spread(scenario)
    lease, redis = f"{name_of(job)}:lease", scenario.books.redis

    # Somebody else has the job's lease, so that the end is not put at once.
    await redis.set(lease, "somebody's")
    await until_settled(scenario, job)
    first.kill()
    assert not await redis.exists(f"{name_of(job)}:end")
    await redis.delete(lease)
    await scenario.worker(SMALL_BATCHES)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def until_settled(scenario: Scenario, job: StandJob) -> None:
    """Wait until a job has no batch left."""
    batches = await scenario.books.count(job, "batches")
    assert await scenario.books.count(job, "planned")
    await scenario.counted(lambda: scenario.books.count(job, "settled"), batches, "batches settled")


async def test_a_job_whose_end_is_being_told_is_ended_once_by_another_worker(scenario: Scenario) -> None:
    """Its worker is killed by the very request, before or after the platform has applied it."""
    first = await scenario.worker(SMALL_BATCHES)
    job = await scenario.new_job(*_SIZES_BYTES)

    async def kill_the_teller(request: web.BaseRequest) -> Relay | Answer:
        if b"COMPLETED" not in await request.read() or not first.pid:
            return Relay()
        first.kill()
        return scenario.random.choice([RESET, Answer(None, is_applied=True)])

    scenario.stand.api.on("status", lambda request: is_status_of(job, request), kill_the_teller)
    await scenario.enqueue(job)
    await first.wait()
    await scenario.worker(SMALL_BATCHES)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


def is_status_of(job: StandJob, request: web.BaseRequest) -> bool:
    """Tell the requests that set a job's status."""
    return request.method == "PUT" and request.path == f"/api/job/{job.job_id}"


async def test_a_worker_that_was_frozen_in_its_batches_writes_nothing_more(scenario: Scenario) -> None:
    """Others have taken its batches over and ended the job; what it has under way is refused."""
    first = await scenario.worker(SMALL_BATCHES)
    await run_spread(scenario)

    first.freeze()
    await scenario.worker(SMALL_BATCHES)
    await scenario.ended()
    at_the_end = len(applied(scenario.platform.store))
    first.thaw()
    first.ask_to_end(signal.SIGTERM)
    await first.wait()

    await scenario.judged()
    assert len(applied(scenario.platform.store)) == at_the_end


async def test_a_worker_that_is_stopped_gives_its_batches_back(scenario: Scenario) -> None:
    """Not after the visibility timeout but at once, and it ends in peace."""
    first = await scenario.worker(_LONG_VISIBILITY)
    job = await run_spread(scenario)

    first.ask_to_end(signal.SIGTERM)

    assert await asyncio.wait_for(first.wait(), 10) == 0
    assert scenario.status(job) == "RUNNING"
    await scenario.worker(_LONG_VISIBILITY)
    await scenario.judged()


async def test_a_planner_that_is_stopped_gives_the_planning_back(scenario: Scenario) -> None:
    """As a batch; another worker plans at once."""
    scenario.stand.api.delay_seconds = 0.7
    first = await scenario.worker(_LONG_VISIBILITY)
    job = await scenario.run(*range(40))
    await scenario.counted(lambda: scenario.books.count(job, "spread"), 1, "spreading")

    first.ask_to_end(signal.SIGTERM)

    assert await asyncio.wait_for(first.wait(), 10) == 0
    assert not await scenario.books.count(job, "planned"), "the planner was too fast"
    scenario.stand.api.heal()
    await scenario.worker(_LONG_VISIBILITY)
    await scenario.judged()


async def test_a_job_in_batches_outlives_a_broker_that_is_killed_and_comes_back(scenario: Scenario) -> None:
    """What runs goes on, and settles when the broker is back."""
    await scenario.worker(SMALL_BATCHES)
    await run_spread(scenario)

    await scenario.stand.kill_broker()
    await asyncio.sleep(5)
    await scenario.platform.broker.start()

    await scenario.judged()


async def test_connections_that_are_killed_in_mid_job_cost_no_byte_twice(scenario: Scenario) -> None:
    """The messages of all batches are delivered again each time; the copies join the runs that there are."""
    for _ in range(2):
        await scenario.worker(SMALL_BATCHES)
    job = await run_spread(scenario)

    for _ in range(4):
        await scenario.stand.kill_connections()
        await asyncio.sleep(0.7)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def test_a_job_in_batches_outlives_a_broker_that_has_lost_its_data(scenario: Scenario) -> None:
    """Some batches are settled, some run, some wait; whoever runs one has the payload to begin anew with."""
    for _ in range(2):
        await scenario.worker(SMALL_BATCHES)
    job = await run_spread(scenario)
    await scenario.counted(lambda: scenario.books.count(job, "settled"), 1, "batches settled")

    scenario.stand.faults["broker emptied"] += 1
    await scenario.stand.redis.flushall()
    # That its files are told once is not promised then.
    scenario.jobs[:] = [replace(job, is_told_once=False)]

    await scenario.judged()
