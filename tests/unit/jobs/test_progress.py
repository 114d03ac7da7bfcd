"""A run's progress, with a real broker: what is shown, what the platform hears, what stops the run."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from worker.jobs.ledger import Ledger, Snapshot
from worker.jobs.progress import Progress
from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.errors import JobTakenOverError, NotAuthorizedError

JOB = "hash-worker:job:http://platform/job/299"


class Sender:
    """Keeps what is put, or refuses it; see `ReportSender.put`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.put_reports: list[Any] = []
        self.asked = 0
        self._error = error

    async def put(self, *reports: Any, done: Any = None) -> None:
        """Keep reports."""
        self.asked += 1
        if self._error is not None:
            raise self._error
        self.put_reports += reports


class Seen:
    """What a run's progress came to."""

    def __init__(self, redis: Redis, sender: Sender) -> None:
        self.redis: Any = redis
        self.ledger = Ledger(redis, JOB)
        self.sender = sender
        self.stop = Stop()
        self.shown: list[Snapshot] = []
        self.progress = self.of_batch(3)

    def of_batch(self, batch: int) -> Progress:
        """Make the progress of a batch's run."""
        return Progress(self.ledger, batch, self.sender, self.stop, self.shown.append)  # type: ignore[arg-type]  # it keeps reports as the real one does

    async def begin(self, *, seconds_ago: float = 0) -> None:
        """Begin a planned job of 100 bytes."""
        await self.ledger.begin()
        await self.ledger.set_totals(files=2, size_bytes=100, passed_over={})
        await self.redis.hset(f"{JOB}:batches", mapping={"1": "a part", "2": "a part", "3": "a part"})
        seconds, _ = await self.redis.time()
        await self.redis.hset(f"{JOB}:ledger", "started", seconds - seconds_ago)

    async def ticking(self, is_enough: Callable[[], object]) -> None:
        """Let it tick until the test has seen enough."""
        async with self.progress:
            while not is_enough():  # noqa: ASYNC110 - it sets no event of ours
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick at once, again and again."""
    monkeypatch.setattr("worker.jobs.progress._TICK_SECONDS", 0.001)


@pytest.fixture
def seen(redis: Redis) -> Seen:
    """Give the progress of a batch whose sender takes everything."""
    return Seen(redis, Sender())


async def test_the_whole_jobs_progress_is_shown_with_the_bytes_under_way(seen: Seen) -> None:
    """Bytes of files that are done leave again, since the ledger counts those."""
    await seen.begin()
    await seen.ledger.tick(1, 20)
    seen.progress.add(50)
    seen.progress.add(-10)

    await seen.ticking(lambda: seen.shown)

    assert seen.shown[0].done_bytes == 60
    assert repr(seen.progress) == f"<Progress of <Ledger of {JOB}>, batch 3: 40 bytes moving>"


async def test_a_run_ticks_on_until_its_block_is_left(seen: Seen) -> None:
    """And no task is left behind."""
    await seen.begin()
    tasks = asyncio.all_tasks()

    await seen.ticking(lambda: len(seen.shown) > 2)

    assert asyncio.all_tasks() <= tasks


async def test_a_cancelled_job_has_each_of_its_runs_stopped(seen: Seen) -> None:
    """Whoever cancelled it said so in the ledger; nothing is shown any more."""
    await seen.begin()
    await seen.ledger.cancel("it was cancelled.")

    await seen.ticking(lambda: seen.stop.reason)

    assert seen.stop.reason is StopReason.CANCELLED
    assert seen.shown == []


async def test_the_platform_is_told_how_far_the_whole_job_is(seen: Seen) -> None:
    """Once, when there is something to be told; the next time is ten seconds and five percent away."""
    await seen.begin(seconds_ago=100)
    seen.progress.add(50)

    await seen.ticking(lambda: len(seen.shown) > 3)

    (report,) = seen.sender.put_reports
    assert (report.level, report.file_id) == ("INFO", None)
    assert report.text.startswith("50 % done: 0 of 2 files, 0.0 MB/s, ")
    assert report.text.endswith(" left.")


async def test_a_job_that_is_not_known_any_more_is_not_shown(seen: Seen) -> None:
    """The broker has lost its data, or the job is over: the run finds out by itself."""
    asked = 0
    tick = seen.ledger.tick

    async def counted(batch: int, moving_bytes: int) -> tuple[Snapshot | None, bool]:
        nonlocal asked
        asked += 1
        return await tick(batch, moving_bytes)

    seen.ledger.tick = counted  # type: ignore[method-assign]  # to see it ask

    await seen.ticking(lambda: asked > 1)

    assert (seen.shown, seen.sender.asked, seen.stop.reason) == ([], 0, None)


@pytest.mark.parametrize(
    "error", [JobTakenOverError("lost"), NotAuthorizedError("refused"), KeyError("a bug")]
)
async def test_what_goes_wrong_with_the_progress_does_not_end_the_run(redis: Redis, error: Exception) -> None:
    """The run is worth more, and finds out by itself what concerns it."""
    seen = Seen(redis, Sender(error))
    await seen.begin(seconds_ago=100)
    seen.progress.add(50)

    await seen.ticking(lambda: seen.sender.asked)

    assert seen.stop.reason is None


async def test_a_run_that_fails_fails_with_its_own_error(seen: Seen) -> None:
    """The progress adds nothing to it and holds up nothing."""
    await seen.begin()

    async def run() -> None:
        async with seen.progress:
            raise KeyError("of the run")

    with pytest.raises(KeyError, match="of the run"):
        await run()
