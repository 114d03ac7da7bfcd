"""The broker dies, freezes, or can't be reached."""

import asyncio
import signal

import pytest

from tests.support.fault_judge import applied
from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import KiB, MiB

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("outage_seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
async def test_jobs_outlive_a_broker_that_is_killed_and_comes_back(
    scenario: Scenario, outage_seconds: int
) -> None:
    """One job is running and two wait; all end once, whatever the worker could not tell the broker."""
    scenario.stand.s3.bytes_per_second = MiB
    await scenario.worker({"WORKER__JOBS_AT_ONCE": 1})
    jobs = [await scenario.run(size) for size in (8 * MiB, MiB, 0)]
    await scenario.in_mid_object(jobs[0])

    await scenario.stand.kill_broker()
    await asyncio.sleep(outage_seconds)
    await scenario.platform.broker.start()

    await scenario.judged()


async def test_connections_that_are_killed_six_times_cost_no_byte_twice(scenario: Scenario) -> None:
    """The broker delivers the message again each time; the copies join the run that there is."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    await scenario.worker()
    job = await scenario.run(8 * MiB)
    await scenario.in_mid_object(job)

    for _ in range(6):
        await scenario.stand.kill_connections()
        await asyncio.sleep(4 / 6)

    assert scenario.bytes_read(job) < job.size_bytes
    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def test_jobs_outlive_a_broker_that_is_frozen(scenario: Scenario) -> None:
    """Its connections stay open and nothing comes, for longer than a lease lasts."""
    scenario.stand.s3.bytes_per_second = 512 * KiB
    await scenario.worker({"WORKER__JOBS_AT_ONCE": 1})
    jobs = [await scenario.run(size) for size in (8 * MiB, MiB)]
    await scenario.in_mid_object(jobs[0])

    async with scenario.stand.frozen_broker():
        await asyncio.sleep(25)

    await scenario.judged()


async def test_a_running_job_outlives_a_broker_that_has_lost_its_data(scenario: Scenario) -> None:
    """The message is gone, and nobody else would do the job: its worker begins it anew."""
    scenario.stand.s3.bytes_per_second = MiB
    await scenario.worker()
    job = await scenario.run(8 * MiB)
    await scenario.in_mid_object(job)

    scenario.stand.faults["broker emptied"] += 1
    await scenario.stand.redis.flushall()

    await scenario.judged()


async def test_a_worker_that_the_broker_can_not_reach_is_replaced_and_writes_nothing_more(
    scenario: Scenario,
) -> None:
    """It still reaches the platform and the storage, and can't know that another has its job."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    first = await scenario.worker(is_through_proxy=True)
    job = await scenario.run(16 * MiB)
    await scenario.in_mid_object(job)

    scenario.stand.broker.freeze()
    await scenario.worker()
    await scenario.ended()
    at_the_end = len(applied(scenario.platform.store))
    scenario.stand.broker.thaw()
    first.ask_to_end(signal.SIGTERM)
    await first.wait()

    await scenario.judged()
    assert len(applied(scenario.platform.store)) == at_the_end
