"""Leases in a real broker: one run has a job, and knows when it has it no more."""

import asyncio

import pytest
from redis.asyncio import Redis

from worker.libsafe.errors import JobTakenOverError
from worker.queueing.lease import Lease, Leases

JOB = "hash-worker:job:http://platform/job/299"


async def taken(leases: Leases, **options: bool) -> Lease:
    """Take the lease, which is free."""
    lease = await leases.take(JOB, **options)
    assert lease is not None
    return lease


async def test_only_one_of_many_gets_the_lease(redis: Redis) -> None:
    """Twenty copies of a message are one run."""
    leases = Leases(redis, 60)

    found = await asyncio.gather(*(leases.take(JOB) for _ in range(20)))

    assert sum(lease is not None for lease in found) == 1


async def test_a_lease_that_was_given_back_is_free_and_the_next_has_a_later_epoch(redis: Redis) -> None:
    """Epochs never repeat, not even within a millisecond."""
    leases = Leases(redis, 60)
    epochs = []

    for _ in range(50):
        lease = await taken(leases)
        epochs.append(lease.epoch)
        await leases.give_back(lease, orderly=True)

    assert epochs == sorted(set(epochs))


async def test_an_orderly_end_is_no_attempt_and_a_death_is_one(redis: Redis) -> None:
    """A job that waits for its platform, or goes back at a shutdown, is not suspected of anything."""
    leases = Leases(redis, 60)
    for _ in range(3):
        await leases.give_back(await taken(leases), orderly=True)
    assert (await taken(leases)).attempts == 1
    await redis.delete(f"{JOB}:lease")  # as it ends by itself when its worker has died

    assert (await taken(leases)).attempts == 2


async def test_to_deliver_only_is_no_attempt(redis: Redis) -> None:
    """Nothing of the object is touched."""
    leases = Leases(redis, 60)

    assert (await taken(leases, to_run=False)).attempts == 0


async def test_renewing_keeps_the_lease_and_celerys_claims_on_its_messages(redis: Redis) -> None:
    """A message whose claim is gone is not claimed again, and a later claim is not made earlier."""
    leases = Leases(redis, 60)
    lease = await taken(leases)
    lease.tags |= {"mine", "gone", "later"}
    await redis.zadd("unacked_index", {"mine": 1, "another's": 1, "later": 4e9})
    await redis.pexpire(f"{JOB}:lease", 1000)

    await leases.renew(lease)

    claims = dict(await redis.zrange("unacked_index", 0, -1, withscores=True))
    seconds, _ = await redis.time()
    assert seconds - 5 < claims.pop("mine") <= seconds + 1
    assert claims == {"another's": 1, "later": 4e9}
    assert await redis.pttl(f"{JOB}:lease") > 50_000
    assert lease.is_sure


async def test_a_run_that_lost_its_lease_is_told_and_takes_nothing_back(redis: Redis) -> None:
    """The other one has the job, whatever this one still has to say."""
    leases = Leases(redis, 0.04)
    lease = await taken(leases)
    await redis.set(f"{JOB}:lease", "another's")
    told = asyncio.Event()

    await leases.keep(lease, told.set)
    await leases.give_back(lease, orderly=True)

    assert told.is_set()
    assert (lease.is_lost, lease.is_gone, lease.is_sure) == (True, False, False)
    assert await redis.get(f"{JOB}:lease") == "another's"
    with pytest.raises(JobTakenOverError):
        await lease.confirm()


async def test_a_lease_that_ended_is_renewed_if_nobody_has_had_the_job_since(redis: Redis) -> None:
    """The broker was away for longer than the lease lives, and nothing else has happened."""
    leases = Leases(redis, 60)
    lease = await taken(leases)
    await redis.delete(f"{JOB}:lease")

    await leases.renew(lease)

    assert lease.is_sure
    assert await redis.get(f"{JOB}:lease") == lease.token


async def test_a_lease_that_ended_is_lost_if_another_has_had_the_job_since(redis: Redis) -> None:
    """It may even have ended the job and given its own lease back."""
    leases = Leases(redis, 60)
    lease = await taken(leases)
    await redis.delete(f"{JOB}:lease")
    await leases.give_back(await taken(leases), orderly=True)

    await leases.renew(lease)

    assert (lease.is_lost, lease.is_gone) == (True, False)
    assert await redis.get(f"{JOB}:lease") is None


async def test_a_broker_that_lost_its_data_is_noticed(redis: Redis) -> None:
    """Then nobody has the message any more, and the run must begin anew."""
    leases = Leases(redis, 60)
    lease = await taken(leases)
    await redis.flushdb()

    await leases.renew(lease)

    assert (lease.is_lost, lease.is_gone) == (True, True)


async def test_a_run_that_was_frozen_is_not_sure_until_it_has_asked(redis: Redis) -> None:
    """It wakes up and does not know how long it slept, but for the clock."""
    leases = Leases(redis, 60)
    lease = await taken(leases)
    lease.sure_until = asyncio.get_running_loop().time() - 1
    asking = [asyncio.create_task(lease.confirm()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in asking)

    await leases.renew(lease)

    await asyncio.gather(*asking)
    assert lease.is_sure
