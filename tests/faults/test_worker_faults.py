"""Workers and lanes die, freeze and are stopped."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.fault_judge import applied
from tests.support.fault_scenario import Scenario, until
from tests.support.fault_stand import KiB, MiB
from tests.support.fault_worker import is_alive
from worker.local.models import JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Four ranges are under way at once, and each of the two lanes may be about to finish one more.
_UNDER_WAY_BYTES = 6 * 256 * KiB


async def test_a_worker_that_is_killed_in_mid_object_is_replaced_by_another(scenario: Scenario) -> None:
    """Its message is delivered again when the visibility timeout is over."""
    scenario.stand.s3.bytes_per_second = MiB
    first = await scenario.worker()
    job = await scenario.run(8 * MiB)
    await scenario.in_mid_object(job)

    first.kill()
    await scenario.worker()

    await scenario.judged()


async def test_a_worker_that_is_killed_leaves_no_process_and_no_shared_memory(scenario: Scenario) -> None:
    """Its lanes end by themselves, and with them the memory that they shared."""
    scenario.stand.s3.bytes_per_second = MiB
    shared_before = shared_memory()
    worker = await scenario.worker()
    job = await scenario.run(8 * MiB)
    await scenario.in_mid_object(job)
    processes = worker.descendants()

    worker.kill()
    await worker.wait()

    assert len(processes) >= 2
    await until(lambda: not any(map(is_alive, processes)), "the end of the lanes", 5)
    assert not shared_memory() - shared_before
    await scenario.worker()
    await scenario.judged()


def shared_memory() -> set[Path]:
    """Give what stands in shared memory under a name."""
    return set(Path("/dev/shm").iterdir())  # noqa: S108 - only looked at


async def test_a_worker_takes_nothing_of_the_shared_memory_that_containers_limit(scenario: Scenario) -> None:
    """Docker gives 64 MB of it, and who writes beyond is killed; the slots are not there."""
    scenario.stand.s3.bytes_per_second = MiB
    worker = await scenario.worker()
    job = await scenario.run(8 * MiB)
    await scenario.in_mid_object(job)

    mapped = [maps_of(pid) for pid in (worker.pid, *worker.lanes)]

    assert all("/memfd:" in maps and "/dev/shm" not in maps for maps in mapped)  # noqa: S108 - only looked for
    await scenario.judged()


def maps_of(pid: int | None) -> str:
    """Give what a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


async def test_a_worker_that_was_frozen_past_its_lease_writes_nothing_more(scenario: Scenario) -> None:
    """Another has ended its job meanwhile; what it has under way is refused by the outbox."""
    scenario.stand.s3.bytes_per_second = MiB
    first = await scenario.worker()
    job = await scenario.run(8 * MiB, 1)
    await scenario.in_mid_object(job)

    first.freeze()
    await scenario.worker()
    await scenario.ended()
    at_the_end = len(applied(scenario.platform.store))
    first.thaw()
    first.ask_to_end(signal.SIGTERM)
    await first.wait()

    await scenario.judged()
    assert len(applied(scenario.platform.store)) == at_the_end


async def test_a_worker_that_was_frozen_past_its_lease_goes_on_with_other_jobs(scenario: Scenario) -> None:
    """It loses the job that it had, and nothing else."""
    scenario.stand.s3.bytes_per_second = MiB
    first = await scenario.worker()
    await scenario.in_mid_object(await scenario.run(8 * MiB))

    first.freeze()
    second = await scenario.worker()
    await scenario.ended()
    first.thaw()
    await second.stop()
    await scenario.run(MiB)

    await scenario.judged()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=lambda number: number.name)
async def test_a_worker_that_is_stopped_gives_its_job_back(
    scenario: Scenario, number: signal.Signals
) -> None:
    """Not after the visibility timeout but at once, and it ends in peace."""
    scenario.stand.s3.bytes_per_second = MiB
    first = await scenario.worker({"BROKER__VISIBILITY_TIMEOUT_SECONDS": 600})
    job = await scenario.run(12 * MiB)
    await scenario.in_mid_object(job)

    first.ask_to_end(number)

    assert await asyncio.wait_for(first.wait(), 10) == 0
    assert scenario.status(job) == "RUNNING"
    await scenario.worker({"BROKER__VISIBILITY_TIMEOUT_SECONDS": 600})
    await scenario.judged()


async def test_a_lane_that_is_killed_costs_no_job(scenario: Scenario) -> None:
    """Another takes its place, and the object goes on where its state was last kept, or begins again."""
    scenario.stand.s3.bytes_per_second = MiB
    worker = await scenario.worker()
    job = await scenario.run(8 * MiB, 3 * MiB)
    await scenario.in_mid_object(job)

    worker.kill_lane()
    await scenario.in_mid_object(job, 4 * MiB)
    await until(lambda: len(worker.lanes) == 2, "a new lane", 5)
    worker.kill_lane()

    await scenario.judged()
    assert len(worker.lanes) == 2


@pytest.mark.slow
async def test_a_lane_that_hangs_is_replaced(scenario: Scenario) -> None:
    """It has work in hand and does not answer for half a minute; nothing is hashed wrongly by it."""
    scenario.stand.s3.bytes_per_second = MiB
    worker = await scenario.worker()
    job = await scenario.run(8 * MiB)
    await scenario.in_mid_object(job)
    lanes = worker.lanes

    worker.freeze_lane()

    await scenario.judged()
    assert len(set(lanes) & set(worker.lanes)) == 1


async def test_a_task_that_is_revoked_ends_its_job_failed_within_one_range(scenario: Scenario) -> None:
    """As Flower's button does it; the job's user is told."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    worker = await scenario.worker()
    job = await scenario.new_job(16 * MiB, end="FAILED")
    task_id = await scenario.enqueue(job)
    await scenario.in_mid_object(job)

    read_bytes = scenario.bytes_read(job)
    await scenario.revoke(task_id)
    await scenario.ended()

    assert scenario.bytes_read(job) - read_bytes <= _UNDER_WAY_BYTES
    assert scenario.texts(job)
    await scenario.run(MiB)
    await scenario.judged()
    assert worker.pid


async def test_a_task_that_meets_its_time_limit_ends_its_job_failed(scenario: Scenario) -> None:
    """The limit came with the message; the job's user is told."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    worker = await scenario.worker()
    job = await scenario.new_job(16 * MiB, end="FAILED")

    scenario.stand.faults["time limit"] += 1
    await scenario.send([job.payload], time_limit=4)
    await scenario.ended()

    assert 0 < scenario.bytes_read(job) < job.size_bytes
    assert scenario.texts(job)
    await scenario.judged()
    assert worker.pid


async def test_a_job_that_the_platform_has_ended_is_left(scenario: Scenario) -> None:
    """The worker looks every five seconds; it writes nothing more, and the message is done with."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    await scenario.worker()
    job = await scenario.run(32 * MiB, end="FAILED")
    await scenario.in_mid_object(job)

    scenario.stand.faults["job ended by the platform"] += 1
    scenario.platform.store.set_status(job.job_id, JobStatus.FAILED)

    await scenario.judged()
    assert scenario.bytes_read(job) < job.size_bytes


async def test_a_job_that_the_platform_has_deleted_is_left(scenario: Scenario) -> None:
    """Nobody is to be told; its message is done with, and the worker goes on."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    await scenario.worker()
    job = await scenario.run(32 * MiB, end=None)
    await scenario.in_mid_object(job)

    next_job = await scenario.new_job(MiB)  # before, since a deleted job's id is given again
    scenario.stand.faults["job deleted by the platform"] += 1
    database = scenario.platform.store._db
    database.execute("DELETE FROM message WHERE job_id = ?", (job.job_id,))
    database.execute("DELETE FROM job WHERE id = ?", (job.job_id,))
    await scenario.enqueue(next_job)

    await scenario.judged()
    assert scenario.bytes_read(job) < job.size_bytes
