"""Everything at once: many jobs, three workers, and something breaks each second or two."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from tests.support.fault_http import RESET, Answer, Relay
from tests.support.fault_judge import StandJob
from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import SMALL_BATCHES, KiB, MiB
from tests.support.fault_worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="session")

_SIZES_BYTES = (0, 1, 251, 64 * KiB, MiB - 1, MiB, MiB + 1, 3 * MiB, 9 * MiB, 16 * MiB)
_JOBS = 40
_LEAST_FAULTS = 25
# The largest object takes 16 s and is begun anew after each death: disturbed for ever it might never end.
_MOST_LATE_FAULTS = 25
# An object under which three lanes of a worker die fails, and rightly so.
_MOST_KILLED_LANES = 2
_SETTINGS: Mapping[str, object] = {
    "HASHING__LANES": 1,
    "HASHING__SLOT_BYTES": MiB,
    "WORKER__JOBS_AT_ONCE": 2,
    "WORKER__FILES_AT_ONCE": 2,
    # Death is all around: none of these jobs is to blame for it.
    "WORKER__ATTEMPTS": 100,
}

_SIZES_IN_BATCHES_BYTES = (0, 1, 251, 64 * KiB, 256 * KiB, 512 * KiB)
_JOBS_IN_BATCHES = 10


@pytest.mark.slow
async def test_random_faults_lose_nothing_and_double_nothing(scenario: Scenario, minutes: float) -> None:
    """Forty jobs and more; every second or two a worker, a lane, a connection or an answer goes."""
    jobs = [await scenario.new_job(64 * MiB)]
    jobs += [await new_job(scenario) for _ in range(_JOBS - 1)]

    await judged_under_random_faults(scenario, jobs, _SETTINGS, new_job, minutes)


@pytest.mark.slow
async def test_random_faults_over_jobs_in_batches_lose_nothing_and_double_nothing(
    scenario: Scenario, minutes: float
) -> None:
    """The same with jobs of up to nine batches, and small ones between them."""
    jobs = [await new_job_in_batches(scenario) for _ in range(_JOBS_IN_BATCHES)]

    await judged_under_random_faults(
        scenario, jobs, {**_SETTINGS, **SMALL_BATCHES}, new_job_in_batches, minutes
    )


async def judged_under_random_faults(
    scenario: Scenario,
    jobs: Sequence[StandJob],
    settings: Mapping[str, object],
    new_job: Callable[[Scenario], Awaitable[StandJob]],
    minutes: float,
) -> None:
    """Run jobs, and more of them, on three workers while things break, and judge."""
    scenario.stand.s3.bytes_per_second = MiB
    deadline = time.monotonic() + 60 * minutes
    faults = late_faults = 0
    async with asyncio.timeout(360 + 60 * minutes), scenario.supervised(3, settings):
        for job in jobs:
            await scenario.enqueue(job)
        while (wants_more := time.monotonic() < deadline or faults < _LEAST_FAULTS) or (
            late_faults < _MOST_LATE_FAULTS and not all_ended(scenario)
        ):
            await asyncio.sleep(scenario.random.uniform(1, 3))
            if scenario.living:
                await scenario.random.choice(_FAULTS)(scenario)
                faults += 1
                late_faults += not wants_more
            if wants_more and waiting(scenario) < 5:
                await scenario.enqueue(await new_job(scenario))
        scenario.stand.api.heal()
        scenario.stand.s3.heal()

        await scenario.judged()


async def new_job(scenario: Scenario) -> StandJob:
    """Make a job over one to four files of any size."""
    return await scenario.new_job(*scenario.random.choices(_SIZES_BYTES, k=scenario.random.randint(1, 4)))


async def new_job_in_batches(scenario: Scenario) -> StandJob:
    """Make a job that is spread; each third one is small and run whole."""
    files = scenario.random.choice((scenario.random.randint(1, 5), *[scenario.random.randint(6, 45)] * 2))
    return await scenario.new_job(*scenario.random.choices(_SIZES_IN_BATCHES_BYTES, k=files))


def waiting(scenario: Scenario) -> int:
    """Count the jobs that nobody has begun."""
    return sum(scenario.status(job) == "PENDING" for job in scenario.jobs)


def all_ended(scenario: Scenario) -> bool:
    """Tell whether there is nothing left to disturb."""
    return all(scenario.status(job) in {"COMPLETED", "FAILED"} for job in scenario.jobs)


def _somebody(scenario: Scenario) -> Worker:
    return scenario.random.choice(scenario.living)


async def _kill(scenario: Scenario) -> None:
    _somebody(scenario).kill()


async def _freeze(scenario: Scenario) -> None:
    worker = _somebody(scenario)
    worker.freeze()
    await asyncio.sleep(scenario.random.uniform(0.5, 5))
    worker.thaw()


async def _stop(scenario: Scenario) -> None:
    _somebody(scenario).ask_to_end(signal.SIGTERM)


async def _kill_lane(scenario: Scenario) -> None:
    worker = _somebody(scenario)
    if worker.lanes and worker.killed_lanes < _MOST_KILLED_LANES:
        worker.kill_lane()


async def _kill_connections(scenario: Scenario) -> None:
    await scenario.stand.kill_connections()


async def _kill_broker(scenario: Scenario) -> None:
    await scenario.stand.kill_broker()
    await asyncio.sleep(scenario.random.uniform(0, 2))
    await scenario.platform.broker.start()


async def _reset_api(scenario: Scenario) -> None:
    scenario.stand.api.reset()
    scenario.stand.api.on("reset after the write", lambda _: True, Answer(None, is_applied=True), times=3)
    scenario.stand.api.on("500", lambda _: True, Answer(500), times=3)


async def _reset_s3(scenario: Scenario) -> None:
    scenario.stand.s3.on("reset in mid-body", lambda _: True, Relay(reset_after_bytes=64 * KiB), times=2)
    scenario.stand.s3.on("reset", lambda _: True, RESET, times=2)


_FAULTS: tuple[Callable[[Scenario], Awaitable[None]], ...] = (
    _kill,
    _kill,
    _freeze,
    _stop,
    _kill_lane,
    _kill_connections,
    _kill_broker,
    _reset_api,
    _reset_s3,
)
