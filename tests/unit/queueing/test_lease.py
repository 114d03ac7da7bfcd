"""Leases in a real broker: one run has a job, and knows when it has it no more."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from worker import metrics
from worker.libsafe.errors import JobTakenOverError
from worker.libsafe.names import batch_name
from worker.queueing.lease import Lease, Leases, NotTaken, Room

JOB = "hash-worker:job:http://platform/job/299"
CONTAINER, PLATFORM = Room("hash-worker:room:a/container/1", 2), Room("hash-worker:room:a", 3)
BOTH = [PLATFORM, CONTAINER]


async def taken(leases: Leases, name: str = JOB, *, rooms: Sequence[Room] = (), to_run: bool = True) -> Lease:
    """Take a lease, which is free."""
    lease = await leases.take(name, rooms=rooms, to_run=to_run)
    assert isinstance(lease, Lease)
    return lease


def take_overs() -> float:
    """Read how many were counted."""
    return metrics.REGISTRY.get_sample_value("hash_worker_lease_take_overs_total") or 0


async def runs_in(redis: Redis, room: Room) -> set[str]:
    """Give the names of the runs that have a place."""
    return {member.removesuffix(":lease") for member in await redis.zrange(room.name, 0, -1)}


async def test_only_one_of_many_gets_the_lease(redis: Redis) -> None:
    """Twenty copies of a message are one run."""
    leases = Leases(redis, 60)

    found = await asyncio.gather(*(leases.take(JOB) for _ in range(20)))

    assert sum(isinstance(lease, Lease) for lease in found) == 1
    assert found.count(NotTaken.HELD) == 19


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


async def test_each_death_is_one_take_over_and_an_orderly_run_is_none(redis: Redis) -> None:
    """Whatever else is remembered of earlier runs; nor is a copy of the message that finds it held."""
    leases = Leases(redis, 60)
    before = take_overs()
    for orderly in (True, False):
        await leases.give_back(await taken(leases), orderly=orderly)
    await taken(leases)
    assert await leases.take(JOB) is NotTaken.HELD
    given_back = take_overs() - before

    for _ in range(2):
        await redis.delete(f"{JOB}:lease")  # as above
        lease = await taken(leases)
    for _ in range(3):
        await leases.give_back(lease, orderly=True)
        lease = await taken(leases)

    assert (given_back, take_overs() - before) == (0, 2)


@pytest.mark.parametrize("to_run", [True, False])
async def test_a_run_that_died_after_a_file_was_done_is_taken_over_too(redis: Redis, to_run: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It is no attempt that was lost, but somebody has died; also if only the end is left to be told."""
    leases = Leases(redis, 60)
    before = take_overs()
    await taken(leases)
    await redis.delete(f"{JOB}:attempts", f"{JOB}:lease")  # the first by the outbox

    await taken(leases, to_run=to_run)

    assert take_overs() - before == 1


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


async def test_so_many_runs_get_a_lease_as_there_is_room_for(redis: Redis) -> None:
    """One less, as many, one more."""
    leases = Leases(redis, 60)

    found = [await leases.take(f"J{number}", rooms=[CONTAINER]) for number in range(3)]

    assert [isinstance(lease, Lease) for lease in found] == [True, True, False]
    assert found[2] is NotTaken.FULL
    assert await runs_in(redis, CONTAINER) == {"J0", "J1"}


async def test_a_run_that_found_no_room_has_left_nothing(redis: Redis) -> None:
    """It is no attempt, it holds no lease, and it takes no place in the room where there was one."""
    leases = Leases(redis, 60)
    for number in range(2):
        await taken(leases, f"J{number}", rooms=BOTH)

    assert await leases.take(JOB, rooms=BOTH) is NotTaken.FULL

    assert not await redis.exists(f"{JOB}:lease", f"{JOB}:attempts", f"{JOB}:epoch")
    assert await runs_in(redis, PLATFORM) == {"J0", "J1"}
    assert (await taken(leases)).attempts == 1


async def test_a_lease_that_was_given_back_leaves_room_for_another(redis: Redis) -> None:
    """In all of its rooms, whether the run ended well or not."""
    leases = Leases(redis, 60)
    first = await taken(leases, "J1", rooms=BOTH)
    await taken(leases, "J2", rooms=BOTH)
    await leases.give_back(first, orderly=False)

    await taken(leases, "J3", rooms=BOTH)

    assert await runs_in(redis, CONTAINER) == await runs_in(redis, PLATFORM) == {"J2", "J3"}


async def test_a_dead_workers_place_frees_itself_when_its_lease_is_over(redis: Redis) -> None:
    """By the broker's clock; the place of one that lives on stays, also beside a later lease."""
    short, long = Leases(redis, 0.05), Leases(redis, 60)
    await taken(long, "lives", rooms=[CONTAINER])
    await taken(short, "dies", rooms=[CONTAINER])
    assert await long.take("next", rooms=[CONTAINER]) is NotTaken.FULL

    while isinstance(await long.take("next", rooms=[CONTAINER]), NotTaken):  # noqa: ASYNC110 - the broker sets no event
        await asyncio.sleep(0.01)

    assert await runs_in(redis, CONTAINER) == {"lives", "next"}


async def test_a_place_is_kept_while_the_lease_is_renewed(redis: Redis) -> None:
    """It moves on with the lease, in every room."""
    leases = Leases(redis, 60)
    lease = await taken(leases, rooms=BOTH)
    seconds, _ = await redis.time()
    for room in BOTH:
        await redis.zadd(room.name, {f"{JOB}:lease": (seconds + 1) * 1000})
        await redis.pexpire(room.name, 1000)

    await leases.renew(lease)

    for room in BOTH:
        assert await redis.zscore(room.name, f"{JOB}:lease") > (seconds + 50) * 1000
        assert await redis.pttl(room.name) > 50_000


async def test_a_place_that_was_lost_with_the_brokers_time_comes_back_with_the_lease(redis: Redis) -> None:
    """The run goes on, so it counts, even if there is one too many for a while."""
    leases = Leases(redis, 60)
    lease = await taken(leases, rooms=[CONTAINER])
    await redis.delete(f"{JOB}:lease", CONTAINER.name)
    for name in ("J1", "J2"):
        await taken(leases, name, rooms=[CONTAINER])

    await leases.renew(lease)

    assert await runs_in(redis, CONTAINER) == {"J1", "J2", JOB}


async def test_who_only_delivers_needs_no_room_and_takes_none(redis: Redis) -> None:
    """An end must not wait until there is room for one more run; nor when its lease is renewed."""
    leases = Leases(redis, 60)
    for name in ("J1", "J2"):
        await taken(leases, name, rooms=[CONTAINER])

    lease = await taken(leases, rooms=[CONTAINER], to_run=False)
    await leases.renew(lease)

    assert await runs_in(redis, CONTAINER) == {"J1", "J2"}


async def test_a_job_that_has_ended_needs_no_room_and_takes_none(redis: Redis) -> None:
    """The copy of its message only has to be acknowledged; nor is it an attempt."""
    leases = Leases(redis, 60)
    for name in ("J1", "J2"):
        await taken(leases, name, rooms=[CONTAINER])
    await redis.set(f"{JOB}:end", "COMPLETED 17-1")

    lease = await taken(leases, rooms=[CONTAINER])
    await leases.renew(lease)

    assert (lease.ended, lease.attempts) == ("COMPLETED", 0)
    assert await runs_in(redis, CONTAINER) == {"J1", "J2"}


async def test_a_copy_of_a_held_job_is_held_and_not_full(redis: Redis) -> None:
    """Whatever room there is: the other one has it."""
    leases = Leases(redis, 60)
    await taken(leases, rooms=[CONTAINER])
    assert await leases.take(JOB, rooms=[CONTAINER]) is NotTaken.HELD
    await taken(leases, "J2", rooms=[CONTAINER])

    assert await leases.take(JOB, rooms=[CONTAINER]) is NotTaken.HELD


async def test_a_run_that_lost_its_lease_leaves_the_place_to_the_other(redis: Redis) -> None:
    """Both have the same name there."""
    leases = Leases(redis, 60)
    first = await taken(leases, rooms=[CONTAINER])
    await redis.delete(f"{JOB}:lease")
    await taken(leases, rooms=[CONTAINER])

    await leases.renew(first)
    await leases.give_back(first, orderly=True)

    assert first.is_lost
    assert await runs_in(redis, CONTAINER) == {JOB}


async def test_a_batch_that_another_has_settled_is_lost_and_not_taken_for_lost_data(redis: Redis) -> None:
    """Nothing is kept of a settled batch; its job, of which the broker knows, must not begin anew."""
    leases = Leases(redis, 60)
    await leases.give_back(await taken(leases), orderly=True)
    name = batch_name(JOB, 3)
    lease = await taken(leases, name)
    await redis.delete(*[key async for key in redis.scan_iter(f"{name}:*")])

    await leases.renew(lease)

    assert (lease.is_lost, lease.is_gone) == (True, False)
