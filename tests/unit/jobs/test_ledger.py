"""The ledger in a real broker: what is counted, when the platform is told, how a job is cancelled."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.jobs.ledger import JobState, Ledger, Snapshot, jobs_named, note_name, platform_of
from worker.libsafe.errors import JobAddress
from worker.libsafe.models import JobStatus
from worker.libsafe.names import END_KEPT_SECONDS, batch_name, job_name
from worker.libsafe.outbox import FileDone, Outbox
from worker.libsafe.reports import MessageReport, StatusReport

ADDRESS = JobAddress("http://platform", SecretStr("k"), "299")
JOB = job_name(ADDRESS)
END = (MessageReport("summary"), StatusReport(JobStatus.COMPLETED))


class Fence:
    """The lease of a run that nobody takes it from; see `worker.libsafe.outbox.Fence`."""

    token = "a-token"
    epoch = 1
    rooms: tuple[str, ...] = ()
    is_sure = True

    async def confirm(self) -> None:
        """Be sure."""


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    """Give the ledger of job 299."""
    return Ledger(redis, JOB)


async def opened(redis: Redis, name: str = JOB) -> Outbox:
    """Open an outbox of the job."""
    await redis.set(f"{name}:lease", Fence.token)
    return Outbox(redis, name, ADDRESS, Fence())


async def end(redis: Redis) -> None:
    """End the job, and have the platform know."""
    outbox = await opened(redis)
    await outbox.accept(await outbox.put(*END))
    assert await outbox.clear()


async def fields(redis: Redis) -> dict[str, str]:
    """Give what the ledger holds."""
    found: dict[str, str] = await redis.hgetall(f"{JOB}:ledger")  # type: ignore[misc]  # redis types it for both its clients
    return found


async def note(redis: Redis, **values: Any) -> None:
    """Write into the ledger by hand."""
    await redis.hset(f"{JOB}:ledger", mapping=values)  # type: ignore[misc]  # as above


async def seconds_ago(redis: Redis, seconds: float) -> float:
    """Give a time of the broker's clock."""
    now, microseconds = await redis.time()
    return float(now + microseconds / 1_000_000 - seconds)


async def test_of_a_job_that_nobody_knows_there_is_no_snapshot(ledger: Ledger) -> None:
    """Perhaps it was never sent, perhaps it is long over."""
    assert await ledger.snapshot() is None
    assert await ledger.tick(0, 5) == (None, False)


async def test_a_job_that_begins_twice_began_at_the_first_time(redis: Redis, ledger: Ledger) -> None:
    """Its second run goes on with the counts, and with the time."""
    await ledger.begin()
    await ledger.set_totals(files=3, size_bytes=30, passed_over={})
    before = await fields(redis)

    await ledger.begin()

    assert await fields(redis) == before
    # It is kept as long as the job takes.
    assert await redis.ttl(f"{JOB}:ledger") == -1


async def test_an_earlier_life_of_a_job_is_forgotten(redis: Redis, ledger: Ledger) -> None:
    """It was given up, and is queued anew."""
    await ledger.begin()
    await ledger.set_totals(files=3, size_bytes=30, passed_over={"deleted": 1})
    await ledger.tick(0, 7)
    await end(redis)
    await redis.hset(f"{JOB}:moving", "0", "7")  # type: ignore[misc]  # as above

    await ledger.begin()

    await redis.delete(f"{JOB}:end")
    snapshot = await ledger.snapshot()
    assert (await fields(redis)).keys() == {"started"}
    assert snapshot is not None
    assert (snapshot.state, snapshot.files, snapshot.done_bytes) == (JobState.RUNNING, 0, 0)


async def test_a_job_that_was_cancelled_before_it_began_is_still_cancelled_then(ledger: Ledger) -> None:
    """Whoever cancels it need not wait for a worker."""
    assert await ledger.cancel("it was cancelled.")
    waiting = await ledger.snapshot()

    await ledger.begin()

    assert waiting is not None
    assert (waiting.state, waiting.cancelled) == (JobState.WAITING, "it was cancelled.")
    assert await ledger.cancelled() == "it was cancelled."


async def test_what_a_job_that_is_run_whole_consists_of_is_known_at_once(ledger: Ledger) -> None:
    """Its share can be told from then on; the second run finds the files anew, and counts no file twice."""
    await ledger.begin()

    for _ in range(2):
        await ledger.set_totals(files=3, size_bytes=30, passed_over={"deleted": 2, "excluded": 1})

    snapshot = await ledger.snapshot()
    assert snapshot is not None
    assert (snapshot.files, snapshot.size_bytes, snapshot.is_planned) == (3, 30, True)
    assert snapshot.passed_over == {"deleted": 2, "excluded": 1}
    assert snapshot.share == 0.0


async def test_what_files_come_to_is_counted_over_all_outboxes_of_the_job(
    redis: Redis, ledger: Ledger
) -> None:
    """Once each, even if a run that follows puts a file again."""
    await ledger.begin()
    outboxes = [await opened(redis, name) for name in (batch_name(JOB, 1), batch_name(JOB, 2))]
    for outbox, done in (
        (outboxes[0], FileDone("1", "hashed", 10)),
        (outboxes[0], FileDone("1", "hashed", 10)),
        (outboxes[1], FileDone("2", "hashed", 20)),
        (outboxes[1], FileDone("3", "not_hashed", 0, "no_such_object")),
        (outboxes[1], FileDone("4", "passed_over", 5, "offline")),
    ):
        await outbox.put(MessageReport("a"), done=done)

    snapshot = await ledger.snapshot()

    assert snapshot is not None
    assert (snapshot.done_files, snapshot.done_bytes) == (4, 35)
    assert (snapshot.hashed_files, snapshot.hashed_bytes) == (2, 30)
    assert (snapshot.not_hashed, snapshot.passed_over) == ({"no_such_object": 1}, {"offline": 1})


async def test_bytes_under_way_in_several_batches_count_together(redis: Redis, ledger: Ledger) -> None:
    """The latest word of each batch; a large file shows progress before it is done."""
    await ledger.begin()
    await redis.hset(f"{JOB}:batches", mapping={"1": "a part", "2": "a part"})  # type: ignore[misc]  # redis types it for both its clients
    await ledger.set_totals(files=2, size_bytes=100, passed_over={})

    for batch, moving_bytes in ((1, 10), (2, 5), (1, 30)):
        snapshot, _ = await ledger.tick(batch, moving_bytes)

    seen = await ledger.snapshot()
    assert snapshot is not None
    assert seen is not None
    assert snapshot.done_bytes == seen.done_bytes == 35
    assert snapshot.share == seen.share == 0.35


async def test_a_run_that_was_frozen_past_its_batch_says_nothing_of_it(ledger: Ledger) -> None:
    """The batch is settled, and its bytes are counted as done."""
    await ledger.begin()
    await ledger.set_totals(files=2, size_bytes=100, passed_over={})

    snapshot, _ = await ledger.tick(7, 50)

    assert snapshot is not None
    assert snapshot.done_bytes == 0


async def test_the_bytes_of_a_very_large_job_are_counted_exactly(ledger: Ledger) -> None:
    """100 PB and one byte: more than a double holds exactly would still be a size."""
    size_bytes = 100 * 10**15 + 1
    await ledger.begin()
    await ledger.set_totals(files=1, size_bytes=size_bytes, passed_over={})

    snapshot, _ = await ledger.tick(0, 8 * 10**15)

    assert snapshot is not None
    assert (snapshot.size_bytes, snapshot.done_bytes) == (size_bytes, 8 * 10**15)
    assert snapshot.share == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("seconds", "moving_bytes", "is_told"),
    [(5.0, 100, False), (10.0, 4, False), (10.0, 5, True), (5.0, 4, False), (3600, 100, True)],
    ids=["too soon", "too little", "both are reached", "neither", "long ago, all"],
)
async def test_the_platform_is_told_after_ten_seconds_and_five_percent(
    redis: Redis, ledger: Ledger, seconds: float, moving_bytes: int, *, is_told: bool
) -> None:
    """Whichever comes later, from the job's beginning on: few messages in a short job, twenty in any."""
    await ledger.begin()
    await ledger.set_totals(files=1, size_bytes=100, passed_over={})
    await note(redis, started=await seconds_ago(redis, seconds))

    found = [await ledger.tick(batch, moving_bytes) for batch in (0, 0)]

    assert [tell for _, tell in found] == [is_told, False]


async def test_the_next_telling_counts_from_the_last(redis: Redis, ledger: Ledger) -> None:
    """One of all runs tells, whichever is the first to look."""
    await ledger.begin()
    await ledger.set_totals(files=1, size_bytes=100, passed_over={})
    await redis.hset(f"{JOB}:batches", mapping={"1": "a part", "2": "a part"})  # type: ignore[misc]  # as above
    await note(redis, started=await seconds_ago(redis, 100))
    first = [(await ledger.tick(batch, 25))[1] for batch in (1, 2)]  # 25 % and 50 %
    await note(redis, told_at=await seconds_ago(redis, 10))
    too_little = (await ledger.tick(2, 4))[1]  # 29 %

    enough = (await ledger.tick(2, 6))[1]  # 31 %

    assert first == [True, False]
    assert not too_little
    assert enough


async def test_files_count_where_there_are_no_bytes(redis: Redis, ledger: Ledger) -> None:
    """Twenty empty files: each is five percent."""
    await ledger.begin()
    await ledger.set_totals(files=20, size_bytes=0, passed_over={})
    await note(redis, started=await seconds_ago(redis, 10))
    before = (await ledger.tick(0, 0))[1]
    await note(redis, done_files=1)

    snapshot, tell = await ledger.tick(0, 0)

    assert (before, tell) == (False, True)
    assert snapshot is not None
    assert snapshot.share == 0.05


async def test_before_a_job_is_planned_its_share_is_not_told(redis: Redis, ledger: Ledger) -> None:
    """Nobody knows of how much."""
    await ledger.begin()
    await note(redis, started=await seconds_ago(redis, 100), bytes=100, done_bytes=50, files=2)

    snapshot, tell = await ledger.tick(0, 0)

    assert snapshot is not None
    assert (snapshot.share, snapshot.seconds_left, tell) == (None, None, False)
    assert snapshot.as_json()["bytes"] == {"total": None, "done": 50}
    assert snapshot.as_json()["files"]["total"] is None


async def test_a_tick_learns_that_the_job_was_cancelled(ledger: Ledger) -> None:
    """By it every run of the job does."""
    await ledger.begin()
    await ledger.cancel("it was cancelled.")

    snapshot, _ = await ledger.tick(3, 7)

    assert snapshot is not None
    assert snapshot.cancelled == "it was cancelled."


async def test_a_tick_after_the_end_says_nothing_and_leaves_nothing(redis: Redis, ledger: Ledger) -> None:
    """Its run was frozen and wakes up late."""
    await ledger.begin()
    await end(redis)
    before = await fields(redis)

    found = await ledger.tick(3, 7)

    assert found == (None, False)
    assert await fields(redis) == before
    assert not await redis.exists(f"{JOB}:moving")


async def test_a_job_has_ended_and_its_time_stops_when_the_platform_knows_it(
    redis: Redis, ledger: Ledger
) -> None:
    """Until then it is RUNNING: the end may still have to be told."""
    await ledger.begin()
    await note(redis, started=await seconds_ago(redis, 100))
    outbox = await opened(redis)
    entry = await outbox.put(*END)
    before = await ledger.snapshot()
    await outbox.accept(entry)
    await outbox.clear()
    await note(redis, over_at=float((await fields(redis))["started"]) + 17)

    after = await ledger.snapshot()

    assert before is not None
    assert after is not None
    assert (before.state, after.state) == (JobState.RUNNING, JobState.COMPLETED)
    assert after.seconds == pytest.approx(17)
    assert (after.share, after.seconds_left) == (1.0, None)


async def test_of_two_reasons_to_cancel_a_job_the_first_counts(ledger: Ledger) -> None:
    """Both callers are told that it will end."""
    await ledger.begin()

    answers = [await ledger.cancel(reason) for reason in ("the first.", "the second.")]

    assert answers == [True, True]
    assert await ledger.cancelled() == "the first."


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_job_that_has_ended_can_not_be_cancelled(
    redis: Redis, ledger: Ledger, *, is_told: bool
) -> None:
    """Whether the platform knows of its end yet, or not."""
    await ledger.begin()
    if is_told:
        await end(redis)
        await redis.delete(f"{JOB}:end")  # as if it had run out before the ledger
    else:
        await (await opened(redis)).put(*END)

    assert not await ledger.cancel("too late.")
    assert await ledger.cancelled() == ""


async def test_of_a_cancelled_job_nothing_that_waits_is_left_and_what_is_sent_stays(
    redis: Redis, ledger: Ledger
) -> None:
    """Those that run end by themselves, and their messages find them."""
    await ledger.begin()
    await redis.hset(f"{JOB}:batches", mapping={"1": "sent", "2": "waits", "3": "waits"})  # type: ignore[misc]  # as above
    await redis.sadd(f"{JOB}:sent", "1")  # type: ignore[misc]  # as above
    await redis.zadd(f"{JOB}:waiting", {"2": 20, "3": 30})

    await ledger.cancel("it was cancelled.")

    assert await redis.hgetall(f"{JOB}:batches") == {"1": "sent"}  # type: ignore[misc]  # as above
    assert await redis.smembers(f"{JOB}:sent") == {"1"}  # type: ignore[misc]  # as above
    assert not await redis.exists(f"{JOB}:waiting")


async def test_a_job_that_is_left_is_cancelled_and_known_to_be_left(ledger: Ledger) -> None:
    """Its batches end as those of a cancelled one, but nobody is told anything."""
    await ledger.begin()

    for _ in range(2):
        await ledger.leave()

    snapshot = await ledger.snapshot()
    assert snapshot is not None
    assert snapshot.is_left
    assert snapshot.cancelled == "the platform has ended it."


async def test_a_job_that_has_ended_is_not_left(redis: Redis, ledger: Ledger) -> None:
    """Its end was put: there is somebody who delivers it."""
    await ledger.begin()
    await (await opened(redis)).put(*END)

    await ledger.leave()

    snapshot = await ledger.snapshot()
    assert snapshot is not None
    assert not snapshot.is_left


async def test_whether_a_job_is_parked_is_seen(redis: Redis, ledger: Ledger) -> None:
    """It waits for somebody to look at its dead letter."""
    await ledger.begin()
    before = await ledger.is_parked()
    await note(redis, parked=1)

    snapshot = await ledger.snapshot()

    assert snapshot is not None
    assert (before, await ledger.is_parked(), snapshot.is_parked) == (False, True, True)


@pytest.mark.parametrize("job_id", ["299", "a b", "ü/ß", "7:job", "*", "[a]", "0"])
async def test_a_job_is_found_by_its_id(redis: Redis, job_id: str) -> None:
    """On each platform that has it, whatever the id looks like."""
    names = [
        job_name(JobAddress(url, SecretStr("k"), job_id)) for url in ("http://b/under/job/x", "http://a:8080")
    ]
    other = job_name(JobAddress("http://a:8080", SecretStr("k"), f"{job_id}1"))
    for name in (*names, other, names[0]):
        await Ledger(redis, name).begin()

    assert await jobs_named(redis, job_id) == sorted(names)
    assert [platform_of(name) for name in names] == ["http://b/under/job/x", "http://a:8080"]


async def test_a_name_is_found_as_long_as_the_jobs_end_is_remembered(redis: Redis) -> None:
    """And no name is found of an id that no job has."""
    await note_name(redis, JOB)

    assert await jobs_named(redis, "29") == []
    (key,) = await redis.keys("hash-worker:named:*")
    assert 0 < await redis.ttl(key) <= END_KEPT_SECONDS


RUNNING = JobState.RUNNING


@pytest.mark.parametrize(
    ("snapshot", "share", "seconds_left"),
    [
        (Snapshot(), None, None),
        (Snapshot(RUNNING, is_planned=True, seconds=5), 0.0, None),
        (Snapshot(RUNNING, files=2, is_planned=True, done_files=1, seconds=5), 0.5, 5.0),
        (Snapshot(RUNNING, files=2, is_planned=True, done_files=3, seconds=5), 1.0, 0.0),
        (Snapshot(RUNNING, 2, 100, is_planned=True, done_bytes=0, seconds=5), 0.0, None),
        (Snapshot(RUNNING, 2, 100, is_planned=True, done_bytes=25, seconds=5), 0.25, 15.0),
        (Snapshot(RUNNING, 2, 100, is_planned=True, done_bytes=100, seconds=5), 1.0, 0.0),
        (Snapshot(RUNNING, 2, 100, is_planned=True, done_bytes=120, seconds=5), 1.0, 0.0),
        (Snapshot(RUNNING, 2, 100, done_bytes=25, seconds=5), None, None),
        (Snapshot(JobState.WAITING, 2, 100, is_planned=True, done_bytes=50), 0.5, None),
        (Snapshot(JobState.FAILED, 2, 100, is_planned=True, done_bytes=25, seconds=5), 0.25, None),
        (Snapshot(JobState.COMPLETED, seconds=5), 1.0, None),
        (Snapshot(JobState.LEFT, 2, 100, is_planned=True, done_bytes=25, seconds=5), 0.25, None),
    ],
)
def test_what_is_done_and_what_is_left_can_be_told_at_the_edges(
    snapshot: Snapshot, share: float | None, seconds_left: float | None
) -> None:
    """No files, no bytes, nothing done, all done, more bytes than the records say; waiting, planned, over."""
    assert (snapshot.share, snapshot.seconds_left) == (share, seconds_left)


@pytest.mark.parametrize(("seconds", "rate"), [(0.0, 0.0), (4.0, 25.0)])
def test_the_rate_is_over_the_whole_time(seconds: float, rate: float) -> None:
    """Of a job that began just now there is none."""
    assert Snapshot(RUNNING, done_bytes=100, seconds=seconds).bytes_per_second == rate


def test_a_snapshot_is_given_as_json() -> None:
    """Plain values, nothing that a reader has to know of ours."""
    snapshot = Snapshot(
        RUNNING,
        files=4,
        size_bytes=1000,
        is_planned=True,
        done_files=2,
        done_bytes=500,
        hashed_files=1,
        hashed_bytes=400,
        not_hashed={"no_such_object": 1},
        seconds=2.04,
        cancelled="it was cancelled.",
    )

    assert snapshot.as_json() == {
        "state": "RUNNING",
        "files": {"total": 4, "done": 2, "hashed": 1, "not_hashed": {"no_such_object": 1}, "passed_over": {}},
        "bytes": {"total": 1000, "done": 500},
        "batches": {"total": 0, "settled": 0, "broken": 0},
        "share": 0.5,
        "bytes_per_second": 245,
        "seconds": 2.0,
        "seconds_left": 2.0,
        "cancelled": "it was cancelled.",
        "is_parked": False,
    }


async def test_counts_of_many_at_the_same_time_are_all_there(redis: Redis, ledger: Ledger) -> None:
    """Each is one step in the broker."""
    await ledger.begin()
    outboxes = [await opened(redis, batch_name(JOB, number)) for number in range(1, 9)]

    async with asyncio.TaskGroup() as group:
        for outbox in outboxes:
            for number in range(25):
                done = FileDone(f"{number}", "hashed", 2)
                group.create_task(outbox.put(MessageReport("a"), done=done))

    snapshot = await ledger.snapshot()
    assert snapshot is not None
    assert (snapshot.hashed_files, snapshot.hashed_bytes) == (200, 400)
