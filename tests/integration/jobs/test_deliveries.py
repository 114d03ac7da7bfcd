"""What becomes of messages: run, brought back, put aside; and what of their jobs."""

import asyncio
import json
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from structlog.testing import capture_logs

from worker.jobs import file_run, object_digests
from worker.jobs.ledger import JobState, Ledger
from worker.jobs.plan import Part
from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import JobAddress, NotAuthorizedError, PlatformBusyError, RejectedError
from worker.libsafe.models import JobStatus
from worker.libsafe.names import batch_name, job_name
from worker.queueing.app import BATCH_QUEUE, QUEUE
from worker.queueing.dead_letters import DeadLetters
from worker.queueing.fate import Fate
from worker.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT = bytes(range(251)) * 1200


@pytest.mark.parametrize(
    ("reason", "fate", "status"),
    [
        (StopReason.SHUTDOWN, Fate.GOES_BACK, "RUNNING"),
        (StopReason.STALLED, Fate.GOES_BACK, "RUNNING"),
        (StopReason.LEASE_LOST, Fate.LET_GO, "RUNNING"),
        (StopReason.REVOKED, Fate.ACKNOWLEDGED, "FAILED"),
        (StopReason.TIME_LIMIT, Fate.ACKNOWLEDGED, "FAILED"),
        (StopReason.LEFT, Fate.ACKNOWLEDGED, "RUNNING"),
    ],
)
async def test_what_becomes_of_a_job_that_is_stopped_depends_on_the_reason(
    bench: Any, monkeypatch: pytest.MonkeyPatch, reason: StopReason, fate: Fate, status: str
) -> None:
    """What an operator wanted to end is FAILED, with a message; what only its worker can't end goes on."""
    reached = asyncio.Event()

    async def endless(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    file_id = await bench.add(b"abc")
    monkeypatch.setattr(file_run, "hash_object", endless)
    job_id, payload = bench.platform.new_job(file_ids=[file_id])
    stop = Stop()
    handling = asyncio.create_task(bench.handle(payload, stop))
    await reached.wait()

    stop.request(reason)
    verdict = await handling

    assert (verdict.fate, bench.platform.job(job_id).status) == (fate, status)
    texts = [message.message for message in bench.platform.messages(job_id)]
    assert [text.split(":")[1] for text in texts[:1]] == [" The job was broken off"] * (status == "FAILED")


async def test_a_job_that_is_stopped_before_it_began_fails_without_a_file(bench: Any) -> None:
    """Who revokes a task that waits wants its job to end as well."""
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    stop = Stop()
    stop.request(StopReason.REVOKED)

    verdict = await bench.handle(payload, stop)

    assert verdict.fate is Fate.ACKNOWLEDGED
    assert bench.platform.job(job_id).status == "FAILED"
    assert "an operator terminated it" in bench.platform.messages(job_id)[0].message


async def test_a_job_that_is_cancelled_before_it_began_fails_without_a_file(
    bench: Any, redis_of: Any
) -> None:
    """Whoever cancels it need not wait until a worker takes its message."""
    file_id = await bench.add(b"abc")
    job_id, payload = bench.platform.new_job(file_ids=[file_id])
    async with redis_of(bench.platform) as redis:
        ledger = Ledger(redis, f"hash-worker:job:{bench.platform.api_url}/job/{job_id}")
        assert await ledger.cancel("it was cancelled.")

        ended = bench.ended(job_id, await bench.handle(payload))
        snapshot = await ledger.snapshot()

    assert (ended.verdict.fate, ended.status) == (Fate.ACKNOWLEDGED, "FAILED")
    assert ended.texts == ["ERROR: The job can't run: it was cancelled."]
    assert bench.platform.hashes(file_id) == {}
    assert snapshot is not None
    assert snapshot.state is JobState.FAILED


async def test_a_message_that_is_cut_off_with_its_worker_goes_back(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop is being left: the job is another worker's, at once."""
    reached = asyncio.Event()

    async def endless(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    hash_object = object_digests.hash_object
    monkeypatch.setattr(file_run, "hash_object", endless)
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    handling = asyncio.create_task(bench.handle(payload))
    await reached.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    monkeypatch.setattr(file_run, "hash_object", hash_object)

    verdict = await bench.handle(payload)

    assert verdict.fate is Fate.ACKNOWLEDGED
    assert bench.platform.job(job_id).status == "COMPLETED"


async def test_copies_of_a_message_are_one_run(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty at once: the object is read once, and no place is taken by those that wait for it."""
    reads = []
    hash_object = object_digests.hash_object

    async def counted(*arguments: Any, **options: Any) -> Any:
        reads.append(arguments)
        return await hash_object(*arguments, **options)

    monkeypatch.setattr(file_run, "hash_object", counted)
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(CONTENT)])

    verdicts = await asyncio.gather(*(bench.handle(payload) for _ in range(20)))
    later = await bench.handle(payload)

    assert sorted(verdict.fate for verdict in verdicts) == [Fate.ACKNOWLEDGED] + [Fate.COMES_AGAIN] * 19
    assert later.fate is Fate.ACKNOWLEDGED
    assert len(reads) == 1
    texts = [message.message for message in bench.platform.messages(job_id)]
    assert len(texts) == len(set(texts)) == 6


async def test_a_payload_with_a_key_that_works_brings_an_end_home(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first key was refused after the end was put; the platform sends the job again with another."""
    post_message = PlatformClient.post_message
    refused = iter([True])

    async def refuse_once(*arguments: Any) -> None:
        if next(refused, False):
            raise NotAuthorizedError("The key was revoked.")
        await post_message(*arguments)

    letters = DeadLetters(bench.platform.broker_url)
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    monkeypatch.setattr(PlatformClient, "post_message", refuse_once)
    first = await bench.handle(payload)
    while not [one for one in await asyncio.to_thread(letters.letters) if one.job_id == job_id]:
        if first.fate is Fate.PUT_ASIDE:
            break
        await asyncio.sleep(0.02)

    again = await bench.handle(payload)

    assert again.fate is Fate.ACKNOWLEDGED
    assert bench.platform.job(job_id).status == "COMPLETED"
    texts = [message.message for message in bench.platform.messages(job_id)]
    assert len(texts) == len(set(texts)) == 6


async def test_a_job_that_the_platform_does_not_have_is_put_aside(bench: Any) -> None:
    """Perhaps it was deleted, perhaps something between us says so: somebody may send it again."""
    job_id, payload = bench.platform.new_job(file_ids=["1"])
    payload["function_data"]["job"]["id"] = "999999"

    verdict = await bench.handle(payload)

    assert verdict.fate is Fate.PUT_ASIDE
    assert "/api/job/999999" in verdict.reason
    assert bench.platform.job(job_id).status == "PENDING"


async def test_a_platform_that_asks_for_time_gets_it(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for longer than one request waits: no file fails for that, the message comes again."""
    metadata = PlatformClient.metadata

    async def busy(*_: Any) -> Any:
        raise PlatformBusyError("Not now.", retry_after_seconds=61)

    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    monkeypatch.setattr(PlatformClient, "metadata", busy)
    verdict = await bench.handle(payload)
    monkeypatch.setattr(PlatformClient, "metadata", metadata)

    again = await bench.handle(payload)

    assert (verdict.fate, verdict.is_away) == (Fate.COMES_AGAIN, True)
    assert again.fate is Fate.ACKNOWLEDGED
    assert bench.platform.job(job_id).status == "COMPLETED"


async def test_a_broker_that_is_full_for_a_time_holds_a_job_up_and_fails_none(
    bench: Any, redis_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the lease nor a report is lost for it."""
    hash_object = object_digests.hash_object
    filled = asyncio.Event()

    async def fill_first(*arguments: Any, **options: Any) -> Any:
        hashed = await hash_object(*arguments, **options)
        async with redis_of(bench.platform) as redis:
            await redis.config_set("maxmemory", 1)
        filled.set()
        return hashed

    monkeypatch.setattr(file_run, "hash_object", fill_first)
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    handling = asyncio.create_task(bench.handle(payload))
    await filled.wait()
    with capture_logs() as log:
        while not any(line["event"] == "The broker is waited for" for line in log):  # noqa: ASYNC110 - a log sets no event
            await asyncio.sleep(0.01)
    async with redis_of(bench.platform) as redis:
        await redis.config_set("maxmemory", 0)

    assert (await handling).fate is Fate.ACKNOWLEDGED
    assert bench.platform.job(job_id).status == "COMPLETED"


async def test_a_job_of_another_worker_comes_again(
    bench: Any, bench_with: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that another worker takes never runs beside the first; it looks again later."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    hash_object = object_digests.hash_object

    async def held(*arguments: Any, **options: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await hash_object(*arguments, **options)

    monkeypatch.setattr(file_run, "hash_object", held)
    _, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    first = asyncio.create_task(bench.handle(payload))
    await reached.wait()

    async with bench_with(settings) as other:
        copy = await other.handle(payload)
        go_on.set()
        done = await first
        later = await other.handle(payload)

    assert (copy.fate, copy.is_away) == (Fate.COMES_AGAIN, False)
    assert done.fate is later.fate is Fate.ACKNOWLEDGED


async def test_a_run_goes_on_where_another_stopped(
    bench: Any, redis_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are done are not read again, and what was not sent is sent; no message comes twice."""
    hash_object = object_digests.hash_object
    file_ids = [await bench.add(CONTENT, f"{number}.bin") for number in range(3)]
    reads: list[str] = []

    async def stuck_at_the_third(store: Any, address: Any, *arguments: Any, **options: Any) -> Any:
        if len(reads) == 2:
            await asyncio.Event().wait()
        reads.append(address.key)
        return await hash_object(store, address, *arguments, **options)

    monkeypatch.setattr(file_run, "hash_object", stuck_at_the_third)
    job_id, payload = bench.platform.new_job(file_ids=file_ids)
    stop = Stop()
    handling = asyncio.create_task(bench.handle(payload, stop))
    async with redis_of(bench.platform) as redis:
        files = f"hash-worker:job:{bench.platform.api_url}/job/{job_id}:files"
        while await redis.hlen(files) < 2:  # noqa: ASYNC110 - the broker sets no event of ours
            await asyncio.sleep(0.01)
    stop.request(StopReason.SHUTDOWN)
    assert (await handling).fate is Fate.GOES_BACK
    reads.append("the third begins")

    verdict = await bench.handle(payload)

    assert verdict.fate is Fate.ACKNOWLEDGED
    assert len(reads) == len(set(reads)) == 4
    texts = [(message.file_id, message.message) for message in bench.platform.messages(job_id)]
    assert len(texts) == len(set(texts)) == 3 * 5 + 1
    assert texts[-1][1].startswith(f"Hashed 3 files, {3 * len(CONTENT)} bytes")


async def test_a_job_that_was_begun_whole_goes_on_so_however_many_files_it_has_by_then(
    bench: Any, bench_with: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spread it would tell again of those that are done; and it would not be planned any more."""
    metadata = PlatformClient.metadata
    file_ids = [await bench.add(b"abc", f"{number}.bin") for number in range(3)]

    async def away_at_the_third(self: PlatformClient, file_id: str) -> Any:
        if file_id == file_ids[2]:
            raise PlatformBusyError("Not now.", retry_after_seconds=61)
        return await metadata(self, file_id)

    job_id, payload = bench.platform.new_job(file_ids=file_ids)
    with monkeypatch.context() as patch:
        patch.setattr(PlatformClient, "metadata", away_at_the_third)
        first = await bench.handle(payload)

    small_batches = settings.worker.model_copy(update={"batch_files": 2})
    async with bench_with(settings.model_copy(update={"worker": small_batches})) as other:
        again = await other.handle(payload)

    assert (first.fate, again.fate) == (Fate.COMES_AGAIN, Fate.ACKNOWLEDGED)
    assert bench.platform.job(job_id).status == "COMPLETED"
    texts = [(message.file_id, message.message) for message in bench.platform.messages(job_id)]
    assert len(texts) == len(set(texts)) == 3 * 5 + 1


async def test_a_job_that_was_cancelled_while_it_was_parked_ends_when_it_is_freed(
    bench: Any, bench_with: Any, settings: Settings, redis_of: Any
) -> None:
    """The messages of its batches were acknowledged meanwhile: they are sent again, to be settled."""
    file_ids = [await bench.add(b"abc", f"{number}.bin") for number in range(4)]
    job_id, payload = bench.platform.new_job(file_ids=file_ids)
    job = f"hash-worker:job:{bench.platform.api_url}/job/{job_id}"
    small_batches = settings.worker.model_copy(update={"batch_files": 2})
    changed = settings.model_copy(update={"worker": small_batches})
    async with bench_with(changed) as other, redis_of(bench.platform) as redis:

        async def pump(*, is_handled: bool = True) -> None:
            while message := await redis.rpop(BATCH_QUEUE):
                (document,), _, _ = json.loads(json.loads(message)["body"])
                if is_handled:
                    await other.deliveries.handle_batch(document, "a-tag", Stop(), lambda _: None)

        await other.handle(payload)
        await other.deliveries.handle_batch({"job": job, "batch": 0}, "a-tag", Stop(), lambda _: None)
        await pump(is_handled=False)
        await redis.hset(f"{job}:ledger", "parked", 1)
        await Ledger(redis, job).cancel("it was cancelled.")

        verdict = await other.handle(payload)
        await pump()

    assert verdict.fate is Fate.ACKNOWLEDGED
    assert bench.platform.job(job_id).status == "FAILED"
    assert bench.platform.messages(job_id)[0].message == "ERROR: The job was broken off: it was cancelled."


@pytest.mark.parametrize("batch", [0, 1], ids=["the planner", "a batch"])
async def test_a_batch_whose_platform_this_worker_does_not_know_parks_its_job(
    bench: Any, redis_of: Any, batch: int
) -> None:
    """Another worker's settings allow what this one's do not; the letter holds the whole payload."""
    _, payload = bench.platform.new_job()
    payload["api"]["url"] = "http://127.0.0.1:9"
    job = "hash-worker:job:http://127.0.0.1:9/job/7"
    async with redis_of(bench.platform) as redis:
        await redis.hset(f"{job}:payload", "document", json.dumps(payload))

        verdict = await bench.deliveries.handle_batch(
            {"job": job, "batch": batch}, "a-tag", Stop(), lambda _: None
        )

    assert verdict.fate is Fate.PUT_ASIDE
    assert verdict.document == payload


@pytest.mark.parametrize("batch", [0, 1], ids=["job", "batch"])
async def test_what_is_not_to_be_delivered_any_more_is_left_alone(
    bench: Any, redis_of: Any, batch: int
) -> None:
    """A reconciler waited with it for long; meanwhile the broker lost its data, and the job began anew."""
    job_id, payload = bench.platform.new_job()
    address = JobAddress(bench.platform.api_url, SecretStr(payload["api"]["key_user"]), job_id)
    job = job_name(address)
    async with redis_of(bench.platform) as redis:
        await Ledger(redis, job).begin()
        await redis.hset(f"{job}:batches", "1", Part(("1",)).as_json())

        await bench.deliveries.deliver(batch_name(job, batch) if batch else job, address)

        assert await redis.hlen(f"{job}:batches") == 1
    assert bench.platform.job(job_id).status == "PENDING"
    assert bench.platform.messages(job_id) == []


async def test_what_is_logged_while_an_end_is_delivered_names_its_job(
    bench: Any, redis_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reconciler does so outside any task."""
    named: list[dict[str, Any]] = []

    async def deliver(*_: object, is_ended: bool) -> None:
        assert is_ended
        named.append(structlog.contextvars.get_contextvars())

    monkeypatch.setattr(bench.deliveries._runner, "deliver", deliver)
    job_id, payload = bench.platform.new_job()
    address = JobAddress(bench.platform.api_url, SecretStr(payload["api"]["key_user"]), job_id)
    async with redis_of(bench.platform) as redis:
        await redis.set(f"{job_name(address)}:end", "COMPLETED 1-1")

        await bench.deliveries.deliver(job_name(address), address)

    assert named == [{"job_id": job_id}]
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_batch_of_a_job_that_is_over_is_acknowledged(bench: Any) -> None:
    """A copy of its message comes late."""
    document = {"job": f"hash-worker:job:{bench.platform.api_url}/job/1000", "batch": 3}

    verdict = await bench.deliveries.handle_batch(document, "a-tag", Stop(), lambda _: None)

    assert verdict.fate is Fate.ACKNOWLEDGED


async def test_a_job_over_which_workers_die_is_failed_and_put_aside(bench: Any, redis_of: Any) -> None:
    """Five may die; the sixth does not look at the object any more."""
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    async with redis_of(bench.platform) as redis:
        await redis.set(f"hash-worker:job:{bench.platform.api_url}/job/{job_id}:attempts", 5)

    verdict = await bench.handle(payload)

    assert verdict.fate is Fate.PUT_ASIDE
    assert bench.platform.job(job_id).status == "FAILED"
    assert "5 workers ended over it" in bench.platform.messages(job_id)[0].message


async def test_a_broker_that_loses_its_data_costs_a_run_but_no_job(
    bench: Any, redis_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is gone with the lease: who still knows of the job puts its payload on the queue anew."""
    hash_object = object_digests.hash_object
    lost = iter([True])

    async def lose_it_once(*arguments: Any, **options: Any) -> Any:
        if next(lost, False):
            async with redis_of(bench.platform) as redis:
                await redis.flushdb()
        return await hash_object(*arguments, **options)

    monkeypatch.setattr(file_run, "hash_object", lose_it_once)
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])

    verdict = await bench.handle(payload)
    async with redis_of(bench.platform) as redis:
        (message,) = await redis.lrange(QUEUE, 0, -1)
        await redis.delete(QUEUE)
    (document,), _, _ = json.loads(json.loads(message)["body"])
    again = await bench.handle(document)

    assert (verdict.fate, again.fate) == (Fate.LET_GO, Fate.ACKNOWLEDGED)
    assert document == payload
    assert bench.platform.job(job_id).status == "COMPLETED"


async def test_a_job_that_has_ended_is_left_as_it_is(bench: Any) -> None:
    """A payload that comes again after its job's end changes nothing on the platform."""
    file_id = await bench.add(b"abc")
    job_id, payload = bench.platform.new_job(file_ids=[file_id])
    first = bench.ended(job_id, await bench.handle(payload))

    again = bench.ended(job_id, await bench.handle(payload))

    assert again.verdict.fate is Fate.ACKNOWLEDGED
    assert (again.status, again.texts) == (first.status, first.texts)


async def test_a_payload_that_names_nobody_to_tell_is_put_aside(bench: Any) -> None:
    """Without an address there are only the dead letters."""
    verdict = await bench.handle({"function_data": {}})

    assert verdict.fate is Fate.PUT_ASIDE
    assert "function_data.job" in verdict.reason


async def test_a_platform_that_the_settings_do_not_name_is_never_called(bench: Any) -> None:
    """The key of a payload is sent to allowed hosts only."""
    _, payload = bench.platform.new_job()
    payload["api"]["url"] = "http://127.0.0.1:9"

    verdict = await bench.handle(payload)

    assert verdict.fate is Fate.PUT_ASIDE
    assert "No key is sent to 127.0.0.1:9" in verdict.reason


async def test_a_job_whose_key_is_refused_is_put_aside_and_the_key_is_not_shown(bench: Any) -> None:
    """Nobody can be told; an operator may send it again when the key works."""
    _, payload = bench.platform.new_job()
    payload["api"]["key_user"] = "wrong-key-1234567890"

    verdict = await bench.handle(payload)

    assert verdict.fate is Fate.PUT_ASIDE
    assert "renew the key" in verdict.reason
    assert "wrong-key" not in repr(verdict)


async def test_an_end_that_the_platform_refuses_is_put_aside_and_can_be_told_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has to look at it; nothing is run again, and nothing is told twice."""
    set_status = PlatformClient.set_job_status

    async def refuse_ends(self: PlatformClient, job_id: str, status: str, key: str) -> None:
        if status != "RUNNING":
            raise RejectedError("No such status.")
        await set_status(self, job_id, JobStatus.RUNNING, key)

    letters = DeadLetters(bench.platform.broker_url)
    monkeypatch.setattr(PlatformClient, "set_job_status", refuse_ends)
    job_id, payload = bench.platform.new_job(file_ids=[await bench.add(b"abc")])
    verdict = await bench.handle(payload)
    while not (kept := [one for one in await asyncio.to_thread(letters.letters) if one.job_id == job_id]):  # noqa: ASYNC110 - the reconciler sets no event of ours
        await asyncio.sleep(0.02)
    assert bench.platform.job(job_id).status == "RUNNING"
    monkeypatch.undo()

    assert await asyncio.to_thread(letters.requeue, kept[0].id)

    while bench.platform.job(job_id).status == "RUNNING":  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.02)
    assert verdict.fate is Fate.ACKNOWLEDGED
    assert "No such status" in kept[0].reason
    assert bench.platform.job(job_id).status == "COMPLETED"
    assert len(bench.platform.messages(job_id)) == 6
