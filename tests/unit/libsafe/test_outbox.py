"""The outbox in a real broker: what is kept, what is refused, and who may write."""

import asyncio
import json

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.libsafe.errors import JobAddress, JobTakenOverError
from worker.libsafe.models import JobStatus
from worker.libsafe.names import END_KEPT_SECONDS, UNDELIVERED, batch_name, batch_named, job_name
from worker.libsafe.outbox import Entry, FileDone, Outbox, Refusals, undelivered
from worker.libsafe.reports import EndOfBatch, HashReport, MessageReport, StatusReport
from worker.queueing.lease import Lease, Leases

ADDRESS = JobAddress("http://platform", SecretStr("key-of-299"), "299")
JOB = job_name(ADDRESS)
BATCH = batch_name(JOB, 7)
END = (MessageReport("summary"), StatusReport(JobStatus.COMPLETED))
DONE = FileDone("7", "hashed", 3)


async def opened(redis: Redis, name: str = JOB) -> Outbox:
    """Take the lease of the job, or of a batch, and open its outbox."""
    lease = await Leases(redis, 60).take(name)
    assert isinstance(lease, Lease)
    # A job that has begun has a ledger.
    await redis.hsetnx(f"{batch_named(name)[0]}:ledger", "started", "1")  # type: ignore[misc]  # redis types it for both its clients
    return Outbox(redis, name, ADDRESS, lease)


async def ledger(redis: Redis) -> dict[str, str]:
    """Give what the job's ledger holds."""
    fields: dict[str, str] = await redis.hgetall(f"{JOB}:ledger")  # type: ignore[misc]  # as above
    return {name: value for name, value in fields.items() if name != "started"}


async def test_what_was_put_is_there_for_another_run_in_order(redis: Redis) -> None:
    """Reports of every kind come back as they were."""
    first = (MessageReport("a\n\0ü", "ERROR", "7"), HashReport("7", "md5", "00ff"))
    outbox = await opened(redis)
    await outbox.put(*first)
    await outbox.put(*END)

    found = await Outbox(redis, JOB, ADDRESS, outbox.fence).entries()

    assert [entry.reports for entry in found] == [first, END]
    assert [entry.is_end for entry in found] == [False, True]
    assert outbox.is_ended


async def test_puts_at_the_same_time_are_all_kept_in_the_order_of_the_calls(redis: Redis) -> None:
    """They share scripts; none is lost for it and none is twice."""
    outbox = await opened(redis)

    entries = await asyncio.gather(*(outbox.put(MessageReport(str(number))) for number in range(200)))

    assert await outbox.entries() == entries
    assert [entry.id for entry in entries] == [f"{outbox.fence.epoch}-{count}" for count in range(1, 201)]


async def test_a_put_that_is_cancelled_takes_no_other_with_it(redis: Redis) -> None:
    """The others are in the same script and know nothing of it."""
    outbox = await opened(redis)
    puts = [asyncio.create_task(outbox.put(MessageReport(str(number)))) for number in range(5)]
    await asyncio.sleep(0)

    puts[0].cancel()
    await asyncio.wait(puts)

    assert [put.cancelled() for put in puts] == [True, False, False, False, False]
    assert {str(entry.reports[0]) for entry in await outbox.entries()} >= {
        str(MessageReport(str(number))) for number in range(1, 5)
    }


async def test_a_write_that_is_repeated_is_kept_once(redis: Redis) -> None:
    """Its answer may have been lost on the way; the end is no exception."""
    outbox = await opened(redis)
    for reports in ((MessageReport("a"),), END):
        await outbox.put(*reports, done=DONE)
        again = Outbox(redis, JOB, ADDRESS, outbox.fence)
        again._count = outbox._count - 1

        await again.put(*reports, done=DONE)

    assert [entry.reports for entry in await outbox.entries()] == [(MessageReport("a"),), END]
    assert (await ledger(redis))["done_files"] == "1"


async def test_files_that_are_done_are_known_to_the_next_run(redis: Redis) -> None:
    """It need not read them; and a run that gets a file done is no attempt that came to nothing."""
    outbox = await opened(redis)

    await outbox.put(MessageReport("a"), done=DONE)
    await outbox.put(MessageReport("b"))

    assert await outbox.files() == {"7"}
    assert await redis.get(f"{JOB}:attempts") is None


@pytest.mark.parametrize("name", [JOB, BATCH], ids=["job", "batch"])
async def test_what_a_file_came_to_is_counted_in_the_jobs_ledger_once(redis: Redis, name: str) -> None:
    """With its reports, in one script: whatever dies, the one is not there without the other."""
    outbox = await opened(redis, name)
    for done in (
        FileDone("1", "hashed", 10),
        FileDone("2", "hashed", 0),
        FileDone("3", "not_hashed", 5, "no_such_object"),
        FileDone("path:/a b", "not_hashed", 0, "no_such_object"),
        FileDone("4", "passed_over", 7, "offline"),
    ):
        await outbox.put(MessageReport("a"), done=done)
        await outbox.put(MessageReport("another run puts it"), done=done)

    counted = await ledger(redis)

    assert counted == {
        "done_files": "5",
        "done_bytes": "22",
        "hashed_files": "2",
        "hashed_bytes": "10",
        "not_hashed:no_such_object": "2",
        "passed_over:offline": "1",
    }


async def test_a_file_of_which_nothing_was_kept_is_not_counted(redis: Redis) -> None:
    """Who has lost the lease counts nothing."""
    outbox = await opened(redis)
    await redis.set(f"{JOB}:lease", "another's")

    with pytest.raises(JobTakenOverError):
        await outbox.put(MessageReport("a"), done=DONE)

    assert await ledger(redis) == {}


async def test_accepted_entries_are_gone_and_twice_is_fine(redis: Redis) -> None:
    """What the platform has is not told again."""
    outbox = await opened(redis)
    first = await outbox.put(MessageReport("a"))
    second = await outbox.put(MessageReport("b"))

    await asyncio.gather(outbox.accept(first), outbox.accept(first))

    assert await outbox.entries() == [second]


async def test_refusals_are_kept_for_whoever_ends_the_job(redis: Redis) -> None:
    """Each once, in the order of the reports, however often the entry is accepted."""
    outbox = await opened(redis)
    entries = [await outbox.put(MessageReport(str(number))) for number in range(11)]
    for entry in reversed(entries):
        for _ in range(2):
            await outbox.accept(entry, [(0, MessageReport(f"refused {entry.id}"))])

    found = await outbox.refusals()

    assert found == Refusals(11, tuple(MessageReport(f"refused {entry.id}") for entry in entries))


async def test_more_refusals_than_are_kept_are_counted(redis: Redis) -> None:
    """A platform may refuse everything; memory does not grow with it."""
    outbox = await opened(redis)
    entry = await outbox.put(*(MessageReport(str(number)) for number in range(1001)))

    await outbox.accept(entry, [(number, MessageReport(str(number))) for number in range(1001)])

    found = await outbox.refusals()
    assert (found.count, len(found.messages)) == (1001, 1000)


async def test_after_the_end_nothing_is_kept(redis: Redis) -> None:
    """A job ends once, whoever tries."""
    outbox = await opened(redis)
    await outbox.put(*END)

    for reports in (END, (MessageReport("late"),)):
        with pytest.raises(JobTakenOverError):
            await outbox.put(*reports)

    assert len(await outbox.entries()) == 1


async def test_a_run_whose_lease_another_has_keeps_nothing(redis: Redis) -> None:
    """It may have been frozen and know nothing of it."""
    outbox = await opened(redis)
    await redis.set(f"{JOB}:lease", "another's")

    with pytest.raises(JobTakenOverError):
        await outbox.put(MessageReport("a"))

    assert await outbox.entries() == []


async def test_a_lease_that_ran_out_unseen_is_renewed_before_anything_is_kept(redis: Redis) -> None:
    """The broker was away for long; nobody has taken the job meanwhile."""
    leases = Leases(redis, 0.2)
    lease = await leases.take(JOB)
    assert isinstance(lease, Lease)
    outbox = Outbox(redis, JOB, ADDRESS, lease)
    await redis.delete(f"{JOB}:lease")
    lease.sure_until = 0
    putting = asyncio.create_task(outbox.put(MessageReport("a")))

    await leases.renew(lease)

    assert [await putting] == await outbox.entries()


async def test_an_undelivered_end_is_found_with_its_address_until_it_is_cleared(redis: Redis) -> None:
    """Whoever delivers it needs the key; afterwards only the end itself is remembered."""
    outbox = await opened(redis)
    entry = await outbox.put(MessageReport("a"), done=DONE)
    assert await undelivered(redis) == {}
    end = await outbox.put(*END)

    assert await undelivered(redis) == {JOB: ADDRESS}
    assert not await outbox.clear()
    await outbox.accept(entry)
    await outbox.accept(end)
    assert await outbox.clear()
    assert not await redis.sismember(UNDELIVERED, JOB)  # type: ignore[misc]  # redis types it for both its clients
    left = {name: await redis.ttl(name) for name in await redis.keys()}
    assert left.keys() == {f"{JOB}:lease", f"{JOB}:epoch", f"{JOB}:end", f"{JOB}:ledger"}
    assert all(0 < seconds <= END_KEPT_SECONDS for seconds in left.values())
    kept = [await redis.get(name) for name in left.keys() - {f"{JOB}:ledger"}]
    assert "key-of-299" not in json.dumps([kept, await ledger(redis)])


async def test_the_ledger_tells_how_a_job_ended_after_it_was_cleared(redis: Redis) -> None:
    """For whoever asks; the counts stay as they are."""
    outbox = await opened(redis)
    await outbox.put(MessageReport("a"), done=DONE)
    await outbox.put(*END)
    for entry in await outbox.entries():
        await outbox.accept(entry)

    assert await outbox.clear()

    kept = await ledger(redis)
    assert (kept["over"], kept["done_files"]) == ("COMPLETED", "1")
    assert float(kept["over_at"]) > 0


async def test_the_ledger_of_a_job_of_which_a_report_was_refused_says_failed(redis: Redis) -> None:
    """As the platform is told then, whatever end was put."""
    outbox = await opened(redis)
    entry = await outbox.put(MessageReport("a"))
    await outbox.accept(entry, [(0, MessageReport("refused"))])
    await outbox.accept(await outbox.put(*END))

    await outbox.clear()
    await outbox.clear()

    assert (await ledger(redis))["over"] == "FAILED"


async def test_a_job_that_is_left_leaves_its_ledger_alone(redis: Redis) -> None:
    """The platform has ended or deleted it; nobody is to be told anything."""
    outbox = await opened(redis)
    await outbox.put(MessageReport("a"), done=DONE)

    await outbox.discard()

    assert set(await redis.keys()) == {f"{JOB}:lease", f"{JOB}:epoch", f"{JOB}:ledger"}
    assert (await ledger(redis))["over"] == "LEFT"


async def test_a_job_that_another_run_has_is_not_discarded(redis: Redis) -> None:
    """The other one may still have much to tell."""
    outbox = await opened(redis)
    entry = await outbox.put(MessageReport("a"), done=DONE)
    await redis.set(f"{JOB}:lease", "another's")

    await outbox.discard()

    assert await outbox.entries() == [entry]
    assert "over" not in await ledger(redis)


@pytest.mark.parametrize(
    ("end", "remembered"),
    [(EndOfBatch(7, is_broken=False), "done"), (EndOfBatch(7, is_broken=True), "broken")],
)
async def test_the_end_of_a_batch_closes_its_outbox_and_is_found_undelivered(
    redis: Redis, end: EndOfBatch, remembered: str
) -> None:
    """Whoever takes the batch next finds how it ended, and delivers it to the job's platform."""
    outbox = await opened(redis, BATCH)

    entry = await outbox.put(MessageReport("why"), end)

    assert entry.is_end
    assert outbox.is_ended
    assert await undelivered(redis) == {BATCH: ADDRESS}
    with pytest.raises(JobTakenOverError):
        await outbox.put(MessageReport("late"))
    await redis.delete(f"{BATCH}:lease")
    later = await Leases(redis, 60).take(BATCH)
    assert isinstance(later, Lease)
    assert (later.ended, later.attempts) == (remembered, 0)


async def test_refusals_of_batches_are_gathered_for_the_jobs_end_in_their_order(redis: Redis) -> None:
    """The job's end tells them, batch after batch, the tenth after the ninth."""
    for number in (10, 9):
        outbox = await opened(redis, batch_name(JOB, number))
        for count in (1, 2):
            entry = await outbox.put(MessageReport("a"))
            await outbox.accept(entry, [(0, MessageReport(f"{number}.{count}"))])

    found = await (await opened(redis)).refusals()

    assert found == Refusals(4, tuple(map(MessageReport, ("9.1", "9.2", "10.1", "10.2"))))


async def test_what_a_batch_has_not_told_can_be_forgotten(redis: Redis) -> None:
    """The platform has ended its job; the job's own outbox stays."""
    own, of_batch = await opened(redis), await opened(redis, BATCH)
    entry = await own.put(MessageReport("a"))
    await of_batch.put(MessageReport("b"))

    await of_batch.forget()

    assert await of_batch.is_empty()
    assert await own.entries() == [entry]


@pytest.mark.parametrize("address", ["http://platform", "http://platform:8080/under/batch:7:x"])
@pytest.mark.parametrize("batch", [1, 10, 123_456])
def test_a_batchs_name_tells_its_job_and_its_number(address: str, batch: int) -> None:
    """Whatever the job's address looks like."""
    job = job_name(JobAddress(address, SecretStr("k"), "7:8"))

    assert batch_named(batch_name(job, batch)) == (job, batch)
    assert batch_named(job) == (job, 0)


async def test_the_outboxes_of_a_job_give_their_entries_different_scopes(redis: Redis) -> None:
    """Under the key of another report a platform would pass a report over."""
    outboxes = [await opened(redis, name) for name in (JOB, BATCH, batch_name(JOB, 8))]

    assert [outbox.scope for outbox in outboxes] == ["299", "299.7", "299.8"]


async def test_an_outbox_shows_no_key(redis: Redis) -> None:
    """Its repr goes into logs; its head, which holds the key, goes into the broker only."""
    outbox = await opened(redis)
    await outbox.put(MessageReport("a"), done=DONE)

    assert repr(outbox) == f"<Outbox of {JOB}, 1 entries put>"
    assert json.loads(outbox.head) == {"api_url": "http://platform", "key": "key-of-299", "job_id": "299"}


def test_two_platforms_may_have_the_same_job_id() -> None:
    """Their jobs have nothing to do with one another."""
    other = JobAddress("http://other", SecretStr("k"), "299")

    assert job_name(other) != JOB


def test_an_entry_shows_whether_it_is_the_end() -> None:
    """Whatever stands before the status."""
    assert Entry("1-1", END).is_end
    assert not Entry("1-1", (MessageReport("a"),)).is_end
