"""The outbox in a real broker: what is kept, what is refused, and who may write."""

import asyncio
import json

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.libsafe.errors import JobAddress, JobTakenOverError
from worker.libsafe.models import JobStatus
from worker.libsafe.outbox import UNDELIVERED, Entry, Outbox, Refusals, job_name, undelivered
from worker.libsafe.reports import HashReport, MessageReport, StatusReport
from worker.queueing.lease import Lease, Leases

ADDRESS = JobAddress("http://platform", SecretStr("key-of-299"), "299")
JOB = job_name(ADDRESS)
END = (MessageReport("summary"), StatusReport(JobStatus.COMPLETED))


async def taken(redis: Redis, seconds: float = 60) -> Lease:
    """Take the job's lease."""
    lease = await Leases(redis, seconds).take(JOB)
    assert lease is not None
    return lease


async def opened(redis: Redis) -> Outbox:
    """Take the job's lease and open its outbox."""
    return Outbox(redis, JOB, ADDRESS, await taken(redis))


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
        await outbox.put(*reports, file="7", outcome="{}")
        again = Outbox(redis, JOB, ADDRESS, outbox.fence)
        again._count = outbox._count - 1

        await again.put(*reports, file="7", outcome="{}")

    assert [entry.reports for entry in await outbox.entries()] == [(MessageReport("a"),), END]


async def test_files_that_are_done_are_told_with_what_they_came_to(redis: Redis) -> None:
    """The next run need not read them; and a run that gets a file done is no attempt that came to nothing."""
    outbox = await opened(redis)

    await outbox.put(MessageReport("a"), file="7", outcome='{"size_bytes": 3}')
    await outbox.put(MessageReport("b"))

    assert await outbox.files() == {"7": '{"size_bytes": 3}'}
    assert await redis.get(f"{JOB}:attempts") is None


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
    assert lease is not None
    outbox = Outbox(redis, JOB, ADDRESS, lease)
    await redis.delete(f"{JOB}:lease")
    lease.sure_until = 0
    putting = asyncio.create_task(outbox.put(MessageReport("a")))

    await leases.renew(lease)

    assert [await putting] == await outbox.entries()


async def test_an_undelivered_end_is_found_with_its_address_until_it_is_cleared(redis: Redis) -> None:
    """Whoever delivers it needs the key; afterwards only the end itself is remembered."""
    outbox = await opened(redis)
    entry = await outbox.put(MessageReport("a"), file="7", outcome="{}")
    assert await undelivered(redis) == {}
    end = await outbox.put(*END)

    assert await undelivered(redis) == {JOB: ADDRESS}
    assert not await outbox.clear()
    await outbox.accept(entry)
    await outbox.accept(end)
    assert await outbox.clear()
    assert not await redis.sismember(UNDELIVERED, JOB)  # type: ignore[misc]  # redis types it for both its clients
    left = {name: await redis.ttl(name) for name in await redis.keys()}
    assert left.keys() == {f"{JOB}:lease", f"{JOB}:epoch", f"{JOB}:end"}
    assert all(0 < seconds <= 30 * 24 * 3600 for seconds in left.values())
    assert "key-of-299" not in json.dumps([await redis.get(name) for name in left])


async def test_a_job_that_is_left_leaves_nothing(redis: Redis) -> None:
    """The platform has ended or deleted it; nobody is to be told anything."""
    outbox = await opened(redis)
    await outbox.put(MessageReport("a"), file="7", outcome="{}")

    await outbox.discard()

    assert set(await redis.keys()) == {f"{JOB}:lease", f"{JOB}:epoch"}


def test_two_platforms_may_have_the_same_job_id() -> None:
    """Their jobs have nothing to do with one another."""
    other = JobAddress("http://other", SecretStr("k"), "299")

    assert job_name(other) != JOB


def test_an_entry_shows_whether_it_is_the_end() -> None:
    """Whatever stands before the status."""
    assert Entry("1-1", END).is_end
    assert not Entry("1-1", (MessageReport("a"),)).is_end
