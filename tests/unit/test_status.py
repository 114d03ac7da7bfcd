"""A job as it is shown: which one is meant, and what is said of it."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from rich.console import Console

from worker.jobs.ledger import JobState, Ledger, Snapshot
from worker.local.broker import Broker
from worker.queueing.intake import Intake, KnownJob, open_intake
from worker.status import NoSuchJobError, draw_job, find_job, job_json, job_line, watch_job

HERE = "hash-worker:job:https://go.example.org/job/7"
THERE = "hash-worker:job:http://localhost:8080/sub/job/7"
RUNNING = Snapshot(
    state=JobState.RUNNING,
    files=1000,
    size_bytes=2_000_000_000,
    is_planned=True,
    done_files=450,
    done_bytes=1_000_000_000,
    hashed_files=447,
    hashed_bytes=1_000_000_000,
    not_hashed={"no_such_file": 2, "access_denied": 1},
    passed_over={"deleted": 1200},
    broken_batches=1,
    seconds=10.0,
)
PLANNING = Snapshot(state=JobState.RUNNING, files=2000, size_bytes=10_000_000, seconds=1.0)


@pytest_asyncio.fixture
async def intake(broker: Broker, redis: Redis) -> AsyncIterator[Intake]:
    """Ask the empty broker."""
    async with open_intake(broker.url) as intake:
        yield intake


async def begin(redis: Redis, *names: str) -> None:
    """Have jobs begin."""
    for name in names:
        await Ledger(redis, name).begin()


def known(snapshot: Snapshot) -> KnownJob:
    """Give job 7."""
    return KnownJob(HERE, "a-task", snapshot)


def drawn(snapshot: Snapshot) -> list[str]:
    """Draw it as on a terminal without colours."""
    file = io.StringIO()
    Console(file=file, width=100).print(draw_job("7", known(snapshot)))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(
    "platform", ["", "https://go.example.org", "https://go.example.org/", "HTTPS://go.example.org:443/api"]
)
async def test_a_job_is_found_by_its_id(intake: Intake, redis: Redis, platform: str) -> None:
    """However its platform's address is written."""
    await begin(redis, HERE)

    assert (await find_job(intake, "7", platform)).name == HERE


async def test_of_two_platforms_jobs_the_one_is_found_that_is_meant(intake: Intake, redis: Redis) -> None:
    """Ids are the platforms' own."""
    await begin(redis, HERE, THERE)

    assert (await find_job(intake, "7", "http://localhost:8080/sub")).name == THERE


@pytest.mark.parametrize(
    ("names", "platform", "told"),
    [
        (
            [],
            "",
            "No job 7 is known here: nobody has put it on the queue, or it ended 30 days ago.",
        ),
        (
            [HERE, THERE],
            "",
            "There is more than one job 7; give --platform http://localhost:8080/sub or https://go.example.org.",
        ),
        (
            [HERE],
            "https://elsewhere.example.org",
            "That platform has no job 7 here; give --platform https://go.example.org.",
        ),
        ([HERE], "go.example.org", "--platform must begin with http:// or https:// and name a host."),
    ],
)
async def test_it_is_said_which_job_can_be_meant(
    intake: Intake, redis: Redis, names: list[str], platform: str, told: str
) -> None:
    """And what to do."""
    await begin(redis, *names)

    with pytest.raises(NoSuchJobError) as error:
        await find_job(intake, "7", platform)

    assert str(error.value) == told


async def test_a_job_is_watched_until_it_has_ended(intake: Intake, redis: Redis) -> None:
    """Each look is shown, the last one too; a job of the same id that another platform begins is not."""
    await begin(redis, HERE)
    seen: list[KnownJob] = []
    was_shown = asyncio.Event()

    def show(job: KnownJob) -> None:
        seen.append(job)
        was_shown.set()

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch_job(intake, "7", "", show))
        await was_shown.wait()
        await begin(redis, THERE)
        await redis.hset(f"{HERE}:ledger", mapping={"done_files": "3", "over": "COMPLETED"})  # type: ignore[misc]  # redis types it for both its clients

    assert [(job.name, job.snapshot.state, job.snapshot.done_files) for job in seen] == [
        (HERE, "RUNNING", 0),
        (HERE, "COMPLETED", 3),
    ]
    assert watching.result() == seen[-1]


def test_everything_that_is_known_is_drawn() -> None:
    """State, share, files, bytes, rate, time left, and what was not hashed and why."""
    assert drawn(RUNNING) == [
        "Job 7 of https://go.example.org  RUNNING",
        "━━━━━━━━━━━━━━━━━━━━                     50 %",
        "files        450 of 1,000",
        "bytes        1.0 GB of 2.0 GB",
        "rate         100.0 MB/s, 10 s left",
        "time         10 s",
        "not hashed   1 access denied, 2 no such file",
        "passed over  1,200 deleted",
        "broken off   1 batch",
    ]


def test_what_is_not_out_of_the_ordinary_is_not_drawn() -> None:
    """A job that nobody has begun has neither a share nor reasons."""
    lines = drawn(Snapshot(cancelled="it was cancelled."))

    assert lines[0] == "Job 7 of https://go.example.org  WAITING"
    assert lines[2:] == ["cancelled  it was cancelled."]


def test_a_job_that_is_being_planned_is_drawn_without_a_share() -> None:
    """What is known so far is told as that."""
    heading, bar, *facts = drawn(PLANNING)

    assert heading.endswith("RUNNING")
    assert "%" not in bar
    assert facts == [
        "files  0, 2,000 planned so far",
        "bytes  0 bytes, 10.0 MB planned so far",
        "rate   0.0 MB/s",
        "time   1 s",
    ]


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        (
            RUNNING,
            "Job 7: RUNNING, 50 %, 450 of 1,000 files, 100.0 MB/s, 10 s left, 3 files not hashed",
        ),
        (PLANNING, "Job 7: RUNNING, 2,000 files planned so far"),
        (Snapshot(), "Job 7: WAITING"),
        (
            Snapshot(state=JobState.COMPLETED, is_planned=True, files=1, done_files=1, seconds=2.0),
            "Job 7: COMPLETED, 100 %, 1 of 1 file, 0.0 MB/s",
        ),
        (
            Snapshot(state=JobState.RUNNING, cancelled="it was cancelled."),
            "Job 7: RUNNING, cancelled: it was cancelled.",
        ),
        (
            Snapshot(state=JobState.RUNNING, is_parked=True),
            "Job 7: RUNNING, parked: it waits for its dead letter to be requeued; see `hash-worker dead`",
        ),
        (Snapshot(state=JobState.LEFT), "Job 7: LEFT"),
    ],
)
def test_a_line_tells_how_far_a_job_is(snapshot: Snapshot, line: str) -> None:
    """Whatever is known of it."""
    assert job_line("7", known(snapshot)) == line


def test_json_says_whose_job_it_is() -> None:
    """The rest is the ledger's own document."""
    document = job_json("7", known(RUNNING))

    assert list(document)[:3] == ["job_id", "task_id", "platform"]
    assert (
        document
        == {"job_id": "7", "task_id": "a-task", "platform": "https://go.example.org"} | RUNNING.as_json()
    )
