"""The platform, the storage, producers and operators while a job is spread over its batches."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.support.fault_http import Answer, Relay
from tests.support.fault_judge import StandJob
from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import SMALL_BATCHES, KiB, MiB
from worker.local.models import ENDED, JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="session")

_DENIED = Answer(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
_REFUSED = Answer(401, {"Content-Type": "application/json"}, b'{"success":false,"result":null,"msg":"No."}')
# At once in all workers, and so hashed ahead of a platform that is away.
_MOST_BATCHES = 4


async def test_a_platform_that_is_away_in_mid_job_fails_no_file(scenario: Scenario) -> None:
    """The batches that run wait in their places or come again, and those that wait are not begun."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    await scenario.worker(SMALL_BATCHES)
    job = await scenario.run(*[128 * KiB] * 30)
    await scenario.in_mid_job(job)

    await scenario.stand.api.refuse()
    await asyncio.sleep(16)
    await scenario.stand.api.accept()

    await scenario.judged()


async def test_few_batches_go_ahead_of_a_platform_that_takes_no_reports(scenario: Scenario) -> None:
    """What is hashed waits in the broker to be told; how much that is does not grow with the job."""
    scenario.stand.s3.bytes_per_second = 128 * KiB
    for _ in range(2):
        await scenario.worker(SMALL_BATCHES)
    job = await scenario.run(*[64 * KiB] * 100)
    await scenario.in_mid_job(job)

    scenario.stand.api.on("503 to a report", lambda request: request.method == "POST", Answer(503))
    # Not all four need end: one that asks after its files while the platform counts as away is not begun.
    await scenario.counted(scenario.books.ends_of_batches, 1, "ends of batches")
    await asyncio.sleep(10)
    # A batch of which all files were told before the outage is still settled in it.
    settled = await scenario.books.count(job, "settled")
    ahead_bytes = scenario.bytes_read(job) - settled * 5 * 64 * KiB
    scenario.stand.api.heal()

    assert ahead_bytes <= _MOST_BATCHES * 5 * 64 * KiB
    await scenario.judged()


async def test_a_key_that_is_refused_in_mid_job_puts_the_job_aside_once_and_it_can_be_requeued(
    scenario: Scenario,
) -> None:
    """Not once for each batch; it goes on where it stood when the key works again."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    for _ in range(2):
        await scenario.worker(SMALL_BATCHES)
    job = await scenario.run(*[256 * KiB] * 40)
    await scenario.in_mid_job(job)

    api = scenario.stand.api
    api.on("401", lambda _: True, _REFUSED)
    await scenario.counted(lambda: scenario.books.count(job, "parked"), 1, "parking")
    await scenario.queue_is_empty()

    (letter_id,) = await scenario.dead_letters()
    # Four batches met it, each with its files under way and its reports.
    assert scenario.stand.faults["401"] <= 20
    api.heal()
    told = await scenario.command("dead", "requeue", letter_id)
    assert told.returncode == 0, told.stderr
    await scenario.judged()
    assert not await scenario.dead_letters()


async def revoke_one_batch(scenario: Scenario, job: StandJob) -> None:
    """Terminate one of the tasks that run, as Flower's button does."""
    del job
    await scenario.revoke((await scenario.running_tasks())[0])


async def cancel(scenario: Scenario, job: StandJob) -> None:
    """Say in the ledger that the job is cancelled, as the gateway does."""
    scenario.stand.faults["job cancelled"] += 1
    assert await scenario.books.ledger_of(job).cancel("it was cancelled.")


async def end_on_the_platform(scenario: Scenario, job: StandJob) -> None:
    """End the job on the platform, as its own button does."""
    scenario.stand.faults["job ended by the platform"] += 1
    scenario.platform.store.set_status(job.job_id, JobStatus.FAILED)


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        (revoke_one_batch, "an operator terminated it."),
        (cancel, "it was cancelled."),
        (end_on_the_platform, None),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_job_that_is_stopped_in_mid_job_stops_in_all_its_batches(
    scenario: Scenario, stop: Callable[[Scenario, StandJob], Awaitable[None]], told: str | None
) -> None:
    """Those that run end, those that wait are not begun, and nothing is told after the end."""
    # An object takes longer than the five seconds between two looks at the platform.
    scenario.stand.s3.bytes_per_second = 128 * KiB
    for _ in range(2):
        await scenario.worker(SMALL_BATCHES)
    job = await scenario.run(*[12 * MiB] * 6, end="FAILED")
    await scenario.in_mid_object(job)

    await stop(scenario, job)
    await scenario.ended()
    at_the_end = len(scenario.texts(job))

    await scenario.judged()
    assert scenario.bytes_read(job) < job.size_bytes / 2
    assert len(scenario.texts(job)) == at_the_end
    if told is not None:
        assert scenario.texts(job)[-2].endswith(f"The job was broken off: {told}")


async def test_a_storage_that_fails_over_one_object_fails_that_file_only(scenario: Scenario) -> None:
    """Whatever batch it is in; what only falters elsewhere fails nothing."""
    await scenario.worker(SMALL_BATCHES)
    job = await scenario.new_job(*[128 * KiB] * 30, end="FAILED")
    s3, denied = scenario.stand.s3, job.files[17]
    s3.on("403", lambda request: request.path == denied.path, _DENIED)
    s3.on(
        "reset in mid-body",
        lambda request: request.method == "GET" and scenario.random.random() < 0.5,
        Relay(reset_after_bytes=64 * KiB),
        times=15,
    )

    await scenario.enqueue(job)

    await scenario.judged()
    for file in job.files:
        assert scenario.platform.hashes(file.file_id) == ({} if file is denied else file.digests)
    assert "1 file not hashed: 1 access denied" in scenario.texts(job)[-1]


async def test_copies_of_every_message_change_nothing(scenario: Scenario) -> None:
    """Of the payload, of the planning and of each batch, while the job runs and when it has ended."""
    scenario.stand.s3.bytes_per_second = 128 * KiB
    job = await scenario.run(*[64 * KiB] * 50)
    copied: dict[str, tuple[str, str]] = {}

    async with asyncio.TaskGroup() as group:
        group.create_task(copy_messages(scenario, job, copied))
        for _ in range(2):
            await scenario.worker(SMALL_BATCHES)
    for queue, message in copied.values():
        await scenario.stand.redis.lpush(queue, message)  # type: ignore[misc]  # as below

    await scenario.judged()
    # The payload, the planning and ten batches; a copy of the payload has some of them sent anew.
    assert len(copied) >= 1 + 1 + 10
    assert scenario.bytes_read(job) == job.size_bytes


async def copy_messages(scenario: Scenario, job: StandJob, copied: dict[str, tuple[str, str]]) -> None:
    """Until the job ends put three copies of each message on its queue, once for each task.

    The retries of copies would have no end if they were copied too.
    """
    while scenario.status(job) not in ENDED:
        # So that the planning takes long enough to be seen.
        scenario.stand.api.delay_seconds = 0 if await scenario.books.count(job, "planned") else 0.1
        for queue, message in await scenario.books.messages():
            task_id = message["headers"]["id"]
            if task_id not in copied:
                copied[task_id] = queue, json.dumps(message)
                scenario.stand.faults["copies of a message"] += 3
                await scenario.stand.redis.lpush(queue, *[copied[task_id][1]] * 3)  # type: ignore[misc]  # redis-py types both its clients at once
        await asyncio.sleep(0.02)


async def test_strangers_that_enqueue_a_job_while_it_runs_change_nothing(scenario: Scenario) -> None:
    """Their messages are no copies, but payloads of the same job; it goes on where it stands."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    for _ in range(2):
        await scenario.worker(SMALL_BATCHES)
    job = await scenario.run(*[128 * KiB] * 30)
    await scenario.in_mid_job(job)

    scenario.stand.faults["copies of a job"] += 5
    await scenario.enqueue(job, copies=5)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def test_a_small_job_behind_a_large_one_ends_first(scenario: Scenario) -> None:
    """The large one has every place that batches may have; one is left, and the large one is hardly begun."""
    scenario.stand.s3.bytes_per_second = 128 * KiB
    await scenario.worker(SMALL_BATCHES)
    large = await scenario.run(*[12 * MiB] * 6, end="FAILED")
    await scenario.in_mid_object(large)

    small = await scenario.run(16 * KiB)
    await scenario.ended(small)

    assert scenario.status(large) == "RUNNING"
    assert not await scenario.books.count(large, "done_files")
    await cancel(scenario, large)
    await scenario.judged()
