"""Jobs that are spread: planned, run in batches, and ended by whoever settles the last one."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from worker.jobs import file_run
from worker.jobs.ledger import Ledger, jobs_named
from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import NotAuthorizedError, PlatformUnreachableError
from worker.libsafe.models import JobStatus
from worker.libsafe.sender import ReportSender
from worker.queueing.app import BATCH_QUEUE, QUEUE
from worker.queueing.dead_letters import DeadLetter, DeadLetters
from worker.queueing.fate import Fate, Verdict
from worker.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

KiB = 1024
# A batch takes three files or 64 KiB, and two are sent at a time.
_LIMITS = {"batch_files": 3, "batch_bytes": 64 * KiB}
# A reconciler that finds the end of a job before the task of its last batch does would still be about it when
# the queue is empty. It looks once at the start.
_SELDOM = 600


class Spread:
    """A worker's deliveries with small batches, and the queue of batches pumped by hand."""

    def __init__(self, bench: Any, redis: Redis) -> None:
        self.bench = bench
        self.redis = redis
        self.platform = bench.platform

    async def add(self, *sizes_bytes: int) -> list[str]:
        """Put files of these sizes on the platform, no two alike."""
        files = enumerate(sizes_bytes)
        return [await self.bench.add(bytes([number + 1]) * size, f"{number}.bin") for number, size in files]

    async def begin(self, **job: Any) -> str:
        """Have the payload of a new job handled, and give the job's id."""
        job_id, payload = self.platform.new_job(**job)
        assert (await self.bench.handle(payload)).fate is Fate.ACKNOWLEDGED
        return str(job_id)

    async def next_message(self) -> dict[str, Any] | None:
        """Take what the next message asks for from the queue of batches."""
        raw: Any = await self.redis.rpop(BATCH_QUEUE)  # type: ignore[misc]  # redis types it for both its clients
        return json.loads(json.loads(raw)["body"])[0][0] if raw else None

    async def handle(self, document: dict[str, Any], stop: Stop | None = None) -> Verdict:
        """Handle the message of a batch."""
        deliveries = self.bench.deliveries
        verdict: Verdict = await deliveries.handle_batch(document, "a-tag", stop or Stop(), lambda _: None)
        return verdict

    async def plan(self) -> None:
        """Handle the message that has the job planned."""
        document = await self.next_message()
        assert document is not None
        assert document["batch"] == 0
        await self.handle(document)

    async def pump(self) -> list[dict[str, Any]]:
        """Handle batches until none is sent any more, and tell which."""
        handled = []
        while document := await self.next_message():
            assert (await self.handle(document)).fate is Fate.ACKNOWLEDGED
            handled.append(document)
        return handled

    def texts(self, job_id: str) -> list[str]:
        """Give the job's messages."""
        return [message.message for message in self.platform.messages(job_id)]

    def status(self, job_id: str) -> str:
        """Give the job's status on the platform."""
        return str(self.platform.job(job_id).status)

    async def keys_of(self, job_id: str) -> set[str]:
        """Give what the broker has of a job, without the job's name."""
        (job,) = await jobs_named(self.redis, job_id)
        keys = {key async for key in self.redis.scan_iter("hash-worker:*") if job in key}
        return {key.removeprefix(f"{job}:") for key in keys}


@pytest_asyncio.fixture(loop_scope="module")
async def spread(
    request: pytest.FixtureRequest, bench_with: Any, settings: Settings, redis_of: Any, platform: Any
) -> AsyncIterator[Spread]:
    """Open deliveries with small batches; the reconciler looks each so many seconds."""
    small = {
        "broker": settings.broker.model_copy(update={"sweep_seconds": getattr(request, "param", _SELDOM)}),
        "worker": settings.worker.model_copy(update=_LIMITS),
        "limits": settings.limits.model_copy(update={"container_batches": 2}),
    }
    async with (
        bench_with(settings.model_copy(update=small)) as bench,
        redis_of(platform) as redis,
    ):
        await redis.flushall()
        yield Spread(bench, redis)


async def test_a_job_of_as_many_files_as_a_batch_takes_is_run_whole(spread: Spread) -> None:
    """Nothing is gained by spreading what one task does in a moment."""
    job_id = await spread.begin(file_ids=await spread.add(1, 2, 3))

    assert spread.status(job_id) == "COMPLETED"
    assert await spread.pump() == []


@pytest.mark.parametrize("sizes_bytes", [[1, 2, 3, 4], [40 * KiB, 24 * KiB + 1]], ids=["files", "bytes"])
async def test_a_job_of_one_more_is_spread_and_ends_when_its_last_batch_is_settled(
    spread: Spread, sizes_bytes: list[int]
) -> None:
    """One file more, or one byte more."""
    file_ids = await spread.add(*sizes_bytes)

    job_id = await spread.begin(file_ids=file_ids)
    assert spread.status(job_id) == "RUNNING"
    handled = await spread.pump()

    assert {document["batch"] for document in handled} == {0, 1, 2}
    assert spread.status(job_id) == "COMPLETED"
    assert spread.texts(job_id)[-1].startswith(f"Hashed {len(file_ids)} files, {sum(sizes_bytes)} bytes")
    for number, (file_id, size_bytes) in enumerate(zip(file_ids, sizes_bytes, strict=True)):
        content = bytes([number + 1]) * size_bytes
        assert spread.platform.hashes(file_id)["sha256"] == hashlib.sha256(content).hexdigest()


async def test_of_a_job_that_has_ended_the_broker_keeps_how_it_ended_and_no_key(spread: Spread) -> None:
    """The ledger for whoever asks, the end for copies of its messages; what it ran on is gone."""
    job_id = await spread.begin(file_ids=await spread.add(1, 2, 3, 4, 5))

    await spread.pump()

    assert await spread.keys_of(job_id) == {"ledger", "end", "epoch"}
    assert not await spread.redis.exists("hash-worker:undelivered")


async def test_the_largest_batch_that_waits_is_sent_first(spread: Spread) -> None:
    """A large object that is begun last would keep all others waiting for its worker."""
    job_id = await spread.begin(file_ids=await spread.add(1, 1, 1, 2, 2, 2, 3, 3, 3, 70 * KiB))

    handled = await spread.pump()

    # The large one is batch 3; the others follow by their bytes.
    assert [document["batch"] for document in handled] == [0, 3, 4, 2, 1]
    assert spread.status(job_id) == "COMPLETED"


async def test_no_more_batches_are_sent_than_tasks_may_run_over_a_container(spread: Spread) -> None:
    """The others wait in the ledger, so that other jobs get their turn."""
    await spread.begin(file_ids=await spread.add(*range(1, 20)))
    planning = await spread.next_message()
    assert planning

    await spread.handle(planning)

    assert await spread.redis.llen(BATCH_QUEUE) == 2  # type: ignore[misc]  # redis types it for both its clients
    await spread.pump()


async def test_a_container_is_planned_from_its_list_and_passes_over_what_nobody_wants(
    spread: Spread,
) -> None:
    """The payload names nothing; the trigger's expression chooses."""
    await spread.add(1, 2)
    file_ids = await spread.add(*range(1, 9))
    folder = spread.platform.store.file(file_ids[0]).fullpath.rpartition("/")[0].rpartition("/")[0]
    job_id, payload = spread.platform.new_job()
    wanted = "|".join(spread.platform.store.file(file_id).fullpath for file_id in file_ids)
    payload["function_data"]["trigger"]["regex"] = f"^{folder}({wanted})$"
    others = len([file for file in spread.platform.files() if file.type == "FILE"]) - 8

    await spread.bench.handle(payload)
    await spread.pump()

    assert spread.status(job_id) == "COMPLETED"
    assert f"{others} files passed over: {others} trigger regex" in spread.texts(job_id)[-1]
    assert spread.texts(job_id)[-1].startswith("Hashed 8 files")


async def test_a_file_that_fails_in_a_batch_fails_the_job_and_the_others_are_hashed(spread: Spread) -> None:
    """Each batch counts; the end tells all of it."""
    file_ids = await spread.add(1, 2, 3, 4)

    job_id = await spread.begin(file_ids=[*file_ids, "999999999"])
    await spread.pump()

    assert spread.status(job_id) == "FAILED"
    assert "1 file not hashed: 1 no such file" in spread.texts(job_id)[-1]
    assert all("sha256" in spread.platform.hashes(file_id) for file_id in file_ids)


async def test_a_hash_that_the_platform_refuses_in_a_batch_fails_the_job(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused is remembered over all batches until the end is told."""
    file_ids = await spread.add(1, 2, 3, 4)
    set_hash = PlatformClient.set_hash

    async def refusing(self: PlatformClient, file_id: str, algorithm: str, *rest: Any) -> None:
        await set_hash(self, file_id, algorithm if file_id != file_ids[3] else "nonsense!", *rest)

    monkeypatch.setattr(PlatformClient, "set_hash", refusing)

    job_id = await spread.begin(file_ids=file_ids)
    await spread.pump()

    assert spread.status(job_id) == "FAILED"
    assert "The platform refused" in spread.texts(job_id)[-1]


async def test_a_copy_of_a_settled_batchs_message_does_nothing(spread: Spread) -> None:
    """Messages come at least once."""
    job_id = await spread.begin(file_ids=await spread.add(1, 2, 3, 4))
    handled = await spread.pump()
    texts = spread.texts(job_id)

    verdicts = [await spread.handle(document) for document in handled]

    assert {verdict.fate for verdict in verdicts} == {Fate.ACKNOWLEDGED}
    assert spread.texts(job_id) == texts


async def test_a_copy_of_the_payload_has_the_job_go_on_where_it_stands(spread: Spread) -> None:
    """A batch whose message was lost is sent again."""
    job_id, payload = spread.platform.new_job(file_ids=await spread.add(1, 2, 3, 4))
    await spread.bench.handle(payload)
    await spread.plan()
    await spread.redis.delete(BATCH_QUEUE)

    await spread.bench.handle(payload)
    await spread.pump()

    assert spread.status(job_id) == "COMPLETED"
    assert sum(text.startswith("Hashed") for text in spread.texts(job_id)) == 1


async def test_a_planner_that_dies_is_followed_by_one_that_goes_on(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has added stays, and no file is planned twice."""
    folder_id = spread.platform.store.add_file(
        spread.platform.container_id, "/planned", size_bytes=0, kind="FOLDER"
    )
    for number in range(7):
        (spread.bench.folder / "x").write_bytes(b"x" * (number + 1))
        await spread.platform.add_path(spread.bench.folder / "x", under=f"planned/{number}")
    container_pages = PlatformClient.container_pages
    pages = 0

    async def small_pages(self: PlatformClient, container_id: str, **options: Any) -> AsyncIterator[Any]:
        nonlocal pages
        async for page in container_pages(self, container_id, **{**options, "page_files": 3}):
            pages += 1
            if pages == 3:
                raise PlatformUnreachableError("The platform is away.")
            yield page

    monkeypatch.setattr("worker.jobs.planning._PAGE_FILES", 3)
    job_id = await spread.begin(file_ids=[folder_id])
    monkeypatch.setattr(PlatformClient, "container_pages", small_pages)
    planning = await spread.next_message()
    assert planning

    first = await spread.handle(planning)
    second = await spread.handle(planning)
    await spread.pump()

    assert (first.fate, second.fate) == (Fate.COMES_AGAIN, Fate.ACKNOWLEDGED)
    assert spread.status(job_id) == "COMPLETED"
    assert spread.texts(job_id)[-1].startswith("Hashed 7 files, 28 bytes")


@pytest.mark.parametrize("spread", [0.1], indirect=True, ids=["often"])
async def test_a_worker_that_dies_between_a_batchs_end_and_its_settling_is_followed_by_a_reconciler(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the batch is safe in the broker; whoever finds it settles it, and the job ends."""
    job_id = await spread.begin(file_ids=await spread.add(1, 2, 3, 4))
    await spread.plan()

    async def away(*_: Any) -> None:
        raise PlatformUnreachableError("The platform is away.")

    with monkeypatch.context() as patch:
        patch.setattr("worker.libsafe.sender.ReportSender.finish", away)
        while document := await spread.next_message():
            assert (await spread.handle(document)).fate is Fate.ACKNOWLEDGED

    async with asyncio.timeout(20):
        while spread.status(job_id) == "RUNNING":  # noqa: ASYNC110 - the platform sets no event
            await asyncio.sleep(0.05)
    assert spread.status(job_id) == "COMPLETED"


async def test_a_task_that_is_terminated_ends_its_whole_job(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who presses the button at one batch means the job."""
    job_id = await spread.begin(file_ids=await spread.add(*range(1, 20)))
    await spread.plan()
    reached = asyncio.Event()

    async def endless(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    document = await spread.next_message()
    assert document
    stop = Stop()
    with monkeypatch.context() as patch:
        patch.setattr(file_run, "hash_object", endless)
        handling = asyncio.create_task(spread.handle(document, stop))
        await reached.wait()
        stop.request(StopReason.REVOKED)
        await handling
    await spread.pump()

    assert spread.status(job_id) == "FAILED"
    assert spread.texts(job_id)[-2] == "ERROR: The job was broken off: an operator terminated it."
    assert spread.texts(job_id)[-1].startswith("Hashed 0 files")


async def test_a_job_that_is_cancelled_stops_what_runs_and_sends_nothing_more(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cancels it says so in the ledger; each run looks there every two seconds."""
    monkeypatch.setattr("worker.jobs.progress._TICK_SECONDS", 0.05)
    job_id = await spread.begin(file_ids=await spread.add(*range(1, 20)))
    await spread.plan()
    reached = asyncio.Event()

    async def endless(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(file_run, "hash_object", endless)
    document = await spread.next_message()
    assert document
    handling = asyncio.create_task(spread.handle(document))
    await reached.wait()

    (job,) = await jobs_named(spread.redis, job_id)
    assert await Ledger(spread.redis, job).cancel("it was cancelled.")
    await handling
    handled = await spread.pump()

    assert len(handled) == 1
    assert spread.status(job_id) == "FAILED"
    assert spread.texts(job_id)[-2] == "ERROR: The job was broken off: it was cancelled."


async def test_a_job_that_the_platform_ends_is_left_without_a_word(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch of any of its runs sees it; nothing is told after the end."""
    monkeypatch.setattr("worker.jobs.watch._LOOK_SECONDS", 0.05)
    job_id = await spread.begin(file_ids=await spread.add(*range(1, 9)))
    await spread.plan()
    reached = asyncio.Event()

    async def endless(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(file_run, "hash_object", endless)
    document = await spread.next_message()
    assert document
    handling = asyncio.create_task(spread.handle(document))
    await reached.wait()

    spread.platform.store.set_status(job_id, JobStatus.FAILED)
    await handling
    await spread.pump()

    assert spread.texts(job_id) == []
    assert await spread.keys_of(job_id) == {"ledger", "epoch"}


async def test_a_key_that_is_refused_parks_the_job_once_and_a_new_payload_frees_it(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its batches would meet the same: one dead letter, nothing more is sent, nothing is lost."""
    file_ids = await spread.add(*range(1, 9))
    job_id, payload = spread.platform.new_job(file_ids=file_ids)
    await spread.bench.handle(payload)
    await spread.plan()

    async def refused(*_: Any, **__: Any) -> None:
        raise NotAuthorizedError("The platform refuses the key.")

    with monkeypatch.context() as patch:
        patch.setattr(PlatformClient, "metadata", refused)
        verdicts = []
        while document := await spread.next_message():
            verdicts.append(await spread.handle(document))

    assert {verdict.fate for verdict in verdicts} == {Fate.PUT_ASIDE}
    assert all(verdict.document == payload for verdict in verdicts)
    await spread.bench.handle(payload)
    await spread.pump()
    assert spread.status(job_id) == "COMPLETED"


async def test_a_batch_that_finds_its_job_parked_leaves_its_lease_alone(spread: Spread) -> None:
    """Whoever frees the job sends again what nobody has the lease of; held for a moment, it would be lost."""
    job_id, payload = spread.platform.new_job(file_ids=await spread.add(1, 2, 3, 4))
    await spread.bench.handle(payload)
    await spread.plan()
    (job,) = await jobs_named(spread.redis, job_id)
    await spread.redis.hset(f"{job}:ledger", "parked", "1")  # type: ignore[misc]  # redis types it for both its clients

    while document := await spread.next_message():
        assert (await spread.handle(document)).fate is Fate.ACKNOWLEDGED
    epochs = [key async for key in spread.redis.scan_iter("hash-worker:batch:*:epoch")]
    await spread.bench.handle(payload)
    await spread.pump()

    assert epochs == []
    assert spread.status(job_id) == "COMPLETED"


async def test_dropping_the_letter_of_a_job_that_goes_on_again_drops_nothing_of_it(spread: Spread) -> None:
    """Another payload has freed it since; between two batches it holds no lease of its own."""
    job_id = await spread.begin(file_ids=await spread.add(1, 2, 3, 4))
    await spread.plan()
    (job,) = await jobs_named(spread.redis, job_id)
    letters = DeadLetters(spread.platform.broker_url)
    letter_id = letters.keep(DeadLetter(reason="It was parked.", job_id=job_id, job=job))

    assert letters.drop(letter_id)
    await spread.pump()

    assert spread.status(job_id) == "COMPLETED"


async def test_a_job_of_which_all_is_done_when_it_is_cancelled_ends_failed_all_the_same(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cancelled it was told so; the message says what was done."""
    job_id, payload = spread.platform.new_job(file_ids=await spread.add(1))
    put = ReportSender.put

    async def cancelling(self: ReportSender, *reports: Any, **options: Any) -> None:
        await put(self, *reports, **options)
        for job in await jobs_named(spread.redis, job_id):
            await Ledger(spread.redis, job).cancel("it was cancelled.")

    monkeypatch.setattr(ReportSender, "put", cancelling)

    await spread.bench.handle(payload)

    assert spread.status(job_id) == "FAILED"
    assert spread.texts(job_id)[-2:][0] == "ERROR: The job was broken off: it was cancelled."


async def test_a_payload_with_faults_does_nothing_to_a_job_that_runs_in_batches(spread: Spread) -> None:
    """It is no better than a copy."""
    job_id, payload = spread.platform.new_job(file_ids=await spread.add(1, 2, 3, 4))
    await spread.bench.handle(payload)

    await spread.bench.handle({**payload, "function_params": {"algorithms": 7}})
    await spread.pump()

    assert spread.status(job_id) == "COMPLETED"


async def test_a_broker_that_loses_its_data_has_the_job_begin_anew(
    spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs one of its batches has the payload still."""
    job_id = await spread.begin(file_ids=await spread.add(*range(1, 9)))
    await spread.plan()
    document = await spread.next_message()
    assert document
    metadata = PlatformClient.metadata

    async def losing(self: PlatformClient, file_id: str) -> Any:
        await spread.redis.flushall()
        return await metadata(self, file_id)

    with monkeypatch.context() as patch:
        patch.setattr(PlatformClient, "metadata", losing)
        verdict = await spread.handle(document)

    assert verdict.fate is Fate.LET_GO
    raw: Any = await spread.redis.rpop(QUEUE)  # type: ignore[misc]  # redis types it for both its clients
    await spread.bench.handle(json.loads(json.loads(raw)["body"])[0][0])
    await spread.pump()
    assert spread.status(job_id) == "COMPLETED"


async def test_a_batch_over_which_workers_die_is_broken_off_and_the_others_go_on(
    spread: Spread, settings: Settings
) -> None:
    """After five attempts it is told, and the job ends FAILED."""
    job_id = await spread.begin(file_ids=await spread.add(1, 2, 3, 4))
    await spread.plan()
    (job,) = await jobs_named(spread.redis, job_id)
    await spread.redis.set(f"hash-worker:batch:1:{job}:attempts", settings.worker.attempts)

    await spread.pump()

    assert spread.status(job_id) == "FAILED"
    assert "1 batch was broken off" in spread.texts(job_id)[-1]
    assert not DeadLetters(spread.platform.broker_url).letters()
