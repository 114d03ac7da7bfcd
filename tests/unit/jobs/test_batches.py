"""The batches of a job in a real broker: added, sent, settled, and the job ended when none is left."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.jobs.batches import PLANNING, Batch, Batches, Planning, Sending
from worker.jobs.ledger import Ledger
from worker.jobs.plan import Part
from worker.libsafe.errors import JobAddress, JobTakenOverError
from worker.libsafe.names import UNDELIVERED, batch_name, job_name
from worker.libsafe.outbox import FileDone, Outbox, undelivered
from worker.libsafe.reports import EndOfBatch, MessageReport
from worker.queueing.app import BATCH_QUEUE, BATCH_TASK
from worker.queueing.message import batch_template

# A name with all that could disturb a template.
ADDRESS = JobAddress("http://platform", SecretStr("key-of-299"), 'a"\\@BATCH@%1ü')
JOB = job_name(ADDRESS)
SENDING = Sending('{"the": "payload"}', batch_template(JOB), BATCH_QUEUE, "hash-worker:dead")
NOTHING: dict[str, int] = {}


class Fence:
    """The lease of a run that nobody takes it from; see `worker.libsafe.outbox.Fence`."""

    token = "a-token"
    epoch = 1
    rooms: tuple[str, ...] = ()
    is_sure = True

    async def confirm(self) -> None:
        """Be sure."""


FENCE = Fence()


class Spread:
    """A job, its batches, and the queue that their messages go to."""

    def __init__(self, redis: Redis, *, most_sent: int = 2) -> None:
        self.redis: Any = redis
        self.batches = Batches(redis, JOB, most_sent=most_sent)
        self.ledger = Ledger(redis, JOB)

    async def begin(self) -> None:
        """Take the job's lease and spread the job."""
        await self.redis.set(f"{JOB}:lease", FENCE.token)
        await self.ledger.begin()
        await self.spread()

    async def spread(self) -> None:
        """Spread it, also once more."""
        await self.batches.spread(FENCE, SENDING, Outbox(self.redis, JOB, ADDRESS, FENCE).head)

    async def add(self, *sizes_bytes: int, first: int = 1, cursor: str | None = None) -> bool:
        """Add batches of one file each."""
        added = [
            Batch(Part((f"{first + place}",)), 1, size_bytes) for place, size_bytes in enumerate(sizes_bytes)
        ]
        cursor = cursor or f"behind {first}"
        previous = await self.redis.hget(f"{JOB}:ledger", "cursor") or ""
        return await self.batches.add(
            FENCE, first, added, previous=previous, cursor=cursor, passed_over=NOTHING
        )

    async def outbox_of(self, batch: int) -> Outbox:
        """Take the lease of a batch and open its outbox."""
        name = batch_name(JOB, batch)
        await self.redis.set(f"{name}:lease", FENCE.token)
        return Outbox(self.redis, name, ADDRESS, FENCE)

    async def settle(self, batch: int, *, is_broken: bool = False) -> None:
        """Bring a batch to its end as its run does, and give its lease back."""
        outbox = await self.outbox_of(batch)
        await outbox.accept(await outbox.put(EndOfBatch(batch, is_broken=is_broken)))
        await self.batches.settle(FENCE, batch, is_broken=is_broken)
        await self.redis.delete(f"{batch_name(JOB, batch)}:lease")

    async def taken(self) -> list[int]:
        """Take all messages from the queue, and give the numbers of their batches, the oldest first."""
        messages = await self.redis.lrange(BATCH_QUEUE, 0, -1)
        await self.redis.delete(BATCH_QUEUE)
        documents = [json.loads(json.loads(message)["body"])[0][0] for message in reversed(messages)]
        assert all(document["job"] == JOB for document in documents)
        return [document["batch"] for document in documents]

    async def counted(self, *names: str) -> list[int]:
        """Give fields of the ledger."""
        return [int(value or 0) for value in await self.redis.hmget(f"{JOB}:ledger", names)]


@pytest.fixture
async def job(redis: Redis) -> Spread:
    """Give a job that is spread, of which two batches may be sent at a time."""
    spread = Spread(redis)
    await spread.begin()
    return spread


async def test_a_job_that_is_spread_has_its_planning_sent_until_it_is_planned(job: Spread) -> None:
    """As batch 0, and only when it is asked for: whoever takes it needs the job's lease."""
    assert await job.taken() == []
    await job.batches.send_planning()
    assert await job.taken() == [PLANNING]
    await job.batches.finish_planning(FENCE)

    await job.batches.send_planning()

    assert await job.taken() == []


async def test_a_job_that_is_not_spread_has_no_planning_to_be_sent(redis: Redis) -> None:
    """Nor one that is over: there is nothing to send it with."""
    spread = Spread(redis)

    await spread.batches.send_planning()

    assert await spread.taken() == []
    assert await spread.batches.planning() == Planning(
        is_spread=False, is_planned=False, cursor="", batches=0
    )
    assert await spread.batches.document() is None


async def test_a_message_is_what_the_template_makes_and_nothing_else(job: Spread) -> None:
    """Celery knows it for a message of the batch's task; its delivery tag is the batch's own."""
    await job.add(5, 7)

    messages = [json.loads(message) for message in await job.redis.lrange(BATCH_QUEUE, 0, -1)]

    assert [json.loads(message["body"]) for message in messages] == [
        [[{"job": JOB, "batch": batch}], {}, {}] for batch in (1, 2)
    ]
    assert {message["headers"]["task"] for message in messages} == {BATCH_TASK}
    ids = [message["headers"]["id"] for message in messages]
    assert ids == [message["properties"]["delivery_tag"] for message in messages]
    assert [one.rpartition("-")[2] for one in ids] == ["1", "2"]
    assert "key-of-299" not in str(messages)


@pytest.mark.parametrize("is_parked", [False, True])
async def test_only_a_parked_job_goes_on_with_a_newer_payload(job: Spread, is_parked: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """There the key did not work; else a late copy may hold an older one. The dead letter is seen to."""
    if is_parked:
        await job.redis.hset(f"{JOB}:ledger", "parked", "7")
        await job.redis.hset("hash-worker:dead", mapping={"7": "of this job", "8": "another"})

    await job.batches.spread(FENCE, replace(SENDING, document='{"newer": 1}'), "a head")

    assert await job.batches.document() == ('{"newer": 1}' if is_parked else SENDING.document)
    assert await job.redis.hkeys("hash-worker:dead") == (["8"] if is_parked else [])
    assert SENDING.document not in repr(SENDING)


async def test_a_call_that_comes_late_adds_nothing(job: Spread) -> None:
    """Its answer was lost, it was made again, and the planner has gone on since."""
    batch = [Batch(Part(("1",)), 1, 10)]
    assert await job.batches.add(FENCE, 1, batch, previous="", cursor="a", passed_over=NOTHING)
    assert await job.batches.add(FENCE, 2, batch, previous="a", cursor="b", passed_over=NOTHING)

    with pytest.raises(JobTakenOverError):
        await job.batches.add(FENCE, 1, batch, previous="", cursor="a", passed_over=NOTHING)

    planning = await job.batches.planning()
    assert (planning.cursor, planning.batches) == ("b", 2)


async def test_a_planner_whose_last_call_the_broker_has_lost_does_not_go_on(job: Spread) -> None:
    """What it added is gone; the one after it goes on where the ledger stands."""
    await job.add(10, cursor="a")
    batch = [Batch(Part(("2",)), 1, 10)]

    with pytest.raises(JobTakenOverError):
        await job.batches.add(FENCE, 2, batch, previous="lost", cursor="b", passed_over=NOTHING)
    with pytest.raises(JobTakenOverError):
        await job.batches.finish_planning(FENCE, "lost")

    assert not (await job.batches.planning()).is_planned


async def test_batches_are_added_with_what_they_come_to(job: Spread) -> None:
    """Files, bytes and what was passed over are counted, and the planner's place is known."""
    parts = [Part(("1", "2"), (), None, 1000), Part((), ("/a",))]
    first = [Batch(parts[0], 2, 30), Batch(parts[1], 1, 0)]

    assert await job.batches.add(
        FENCE, 1, first, previous="", cursor="a", passed_over={"deleted": 2, "excluded": 1}
    )
    assert await job.batches.add(FENCE, 3, [], previous="a", cursor="b", passed_over={"deleted": 1})

    snapshot = await job.ledger.snapshot()
    assert snapshot is not None
    assert (snapshot.files, snapshot.size_bytes, snapshot.is_planned) == (3, 30, False)
    assert snapshot.passed_over == {"deleted": 3, "excluded": 1}
    assert await job.batches.planning() == Planning(is_spread=True, is_planned=False, cursor="b", batches=2)
    assert [await job.batches.part(batch) for batch in (1, 2, 3)] == [*parts, None]


async def test_batches_that_are_added_again_are_there_once(job: Spread) -> None:
    """The answer to the first call was lost on its way."""
    for _ in range(2):
        assert await job.add(10, 20, 30)

    assert await job.taken() == [3, 2]
    assert await job.counted("files", "bytes", "batches") == [3, 60, 3]


async def test_a_call_that_comes_again_does_not_bring_back_what_was_settled_since(job: Spread) -> None:
    """Between the two a worker may have done the batch."""
    await job.add(10)
    await job.settle(1)

    assert await job.add(10)

    assert await job.batches.part(1) is None
    assert await job.taken() == [1]


async def test_who_has_lost_the_jobs_lease_changes_nothing(job: Spread) -> None:
    """Another planner goes on."""
    await job.redis.set(f"{JOB}:lease", "another's")
    before = await job.redis.hgetall(f"{JOB}:ledger")

    for call in (job.add(10), job.spread(), job.batches.finish_planning(FENCE)):
        with pytest.raises(JobTakenOverError):
            await call

    assert await job.redis.hgetall(f"{JOB}:ledger") == before
    assert await job.taken() == []


async def test_the_largest_batches_are_sent_first_and_no_more_than_may_be_sent(job: Spread) -> None:
    """Over several pages of the planner: what is sent stays, the largest of all that wait follows."""
    await job.add(10, 30, 20)
    assert await job.taken() == [2, 3]
    await job.add(25, 5, 40, first=4)
    assert await job.taken() == []

    await job.settle(2)
    await job.settle(3)

    assert await job.taken() == [6, 4]
    assert await job.redis.smembers(f"{JOB}:sent") == {"6", "4"}


@pytest.mark.parametrize(("count", "sent"), [(0, 0), (2, 2), (3, 3), (4, 3)])
async def test_as_many_are_sent_as_the_limit_allows(redis: Redis, count: int, sent: int) -> None:
    """None, one less, as many, one more."""
    spread = Spread(redis, most_sent=3)
    await spread.begin()

    await spread.add(*[10] * count)

    assert len(await spread.taken()) == sent
    assert await redis.zcard(f"{JOB}:waiting") == count - sent


async def test_a_batch_that_is_settled_makes_room_for_the_next_once(job: Spread) -> None:
    """Its own worker settles it, and perhaps a reconciler as well."""
    await job.add(40, 30, 20, 10)
    await job.taken()
    await job.settle(1)

    await job.settle(1)

    assert await job.taken() == [3]
    assert await job.counted("settled", "broken") == [1, 0]


async def test_of_a_settled_batch_nothing_is_kept(job: Spread) -> None:
    """A job may have a million; a copy of its message finds nothing to do."""
    await job.add(10, 20)
    outbox = await job.outbox_of(1)
    entry = await outbox.put(MessageReport("a"), done=FileDone("1", "hashed", 10))
    end = await outbox.put(EndOfBatch(1, is_broken=True))
    await job.redis.set(f"{outbox.name}:attempts", 1)
    await job.redis.set(f"{outbox.name}:epoch", 1)
    await job.ledger.tick(1, 7)
    for one in (entry, end):
        await outbox.accept(one)

    await job.batches.settle(FENCE, 1, is_broken=True)

    assert await job.redis.keys(f"{batch_name('', 1)}*") == [f"{outbox.name}:lease"]
    assert await job.batches.part(1) is None
    assert await undelivered(job.redis) == {}
    assert await job.redis.hgetall(f"{JOB}:moving") == {}
    snapshot = await job.ledger.snapshot()
    assert snapshot is not None
    assert (snapshot.broken_batches, snapshot.hashed_files, snapshot.done_bytes) == (1, 1, 10)


async def test_a_batch_of_which_the_platform_does_not_have_all_is_not_settled(job: Spread) -> None:
    """What is in its outbox would be lost."""
    await job.add(10)
    outbox = await job.outbox_of(1)
    await outbox.put(EndOfBatch(1, is_broken=False))

    with pytest.raises(JobTakenOverError, match="unsent"):
        await job.batches.settle(FENCE, 1, is_broken=False)

    assert await job.batches.part(1) is not None
    assert await undelivered(job.redis) == {outbox.name: ADDRESS}


async def test_a_batch_that_another_run_has_is_not_settled(job: Spread) -> None:
    """It runs there."""
    await job.add(10)
    await job.redis.set(f"{batch_name(JOB, 1)}:lease", "another's")

    with pytest.raises(JobTakenOverError, match="held"):
        await job.batches.settle(FENCE, 1, is_broken=False)

    assert await job.batches.part(1) is not None


async def test_the_last_batch_that_is_settled_has_the_job_ended(job: Spread) -> None:
    """The job is found by whoever looks for undelivered ends, with the address to tell."""
    await job.add(10, 20, 30)
    await job.batches.finish_planning(FENCE)
    for batch in (3, 2):
        await job.settle(batch)
        assert not await job.batches.is_to_be_ended()

    await job.settle(1)

    assert await job.batches.is_to_be_ended()
    assert await undelivered(job.redis) == {JOB: ADDRESS}


async def test_a_job_of_which_all_is_settled_is_not_ended_before_it_is_planned(job: Spread) -> None:
    """There may be more to come; then its planner is the one that finds nothing left."""
    await job.add(10)
    await job.settle(1)
    assert not await job.batches.is_to_be_ended()

    for _ in range(2):
        await job.batches.finish_planning(FENCE)

    assert await undelivered(job.redis) == {JOB: ADDRESS}


async def test_a_job_without_a_batch_is_ended_when_it_is_planned(job: Spread) -> None:
    """Its container was emptied meanwhile."""
    await job.add()

    await job.batches.finish_planning(FENCE)

    assert await job.batches.is_to_be_ended()


async def test_what_is_settled_once_more_after_the_jobs_end_does_not_bring_the_job_back(
    job: Spread,
) -> None:
    """It would be ended twice."""
    await job.add(10)
    await job.batches.finish_planning(FENCE)
    await job.settle(1)
    await Outbox(job.redis, JOB, ADDRESS, FENCE).discard()

    await job.settle(1)
    await job.batches.finish_planning(FENCE)

    assert not await job.batches.is_to_be_ended()
    assert not await job.redis.exists(UNDELIVERED, f"{JOB}:head")


async def test_to_a_cancelled_job_nothing_is_added(job: Spread) -> None:
    """The planner learns it by that; what was sent ends by itself, and then the job."""
    await job.add(10, 20, 30)
    await job.ledger.cancel("it was cancelled.")

    is_added = await job.add(40, first=4)
    await job.batches.finish_planning(FENCE)
    await job.settle(3)
    assert not await job.batches.is_to_be_ended()
    await job.settle(2)

    assert not is_added
    assert await job.taken() == [3, 2]
    assert await job.counted("files") == [3]
    assert await job.batches.is_to_be_ended()


async def test_a_cancelled_job_of_which_nothing_runs_is_ended_by_its_planner(job: Spread) -> None:
    """Nobody else is there to do it."""
    await job.ledger.cancel("it was cancelled.")

    await job.batches.finish_planning(FENCE)

    assert await job.batches.is_to_be_ended()


async def test_a_job_that_goes_on_has_those_batches_sent_again_that_nobody_runs(job: Spread) -> None:
    """Their messages may be lost, or acknowledged while the job was parked; the others' run lives on them."""
    await job.add(10, 20, 30, 40)
    await job.taken()
    await job.outbox_of(4)

    await job.spread()

    assert await job.taken() == [3]


async def test_a_job_that_is_parked_sends_nothing_and_one_that_is_freed_goes_on(job: Spread) -> None:
    """A key was refused: every batch would meet the same."""
    await job.add(10, 20, 30)
    await job.taken()
    await job.redis.hset(f"{JOB}:ledger", "parked", 1)
    await job.settle(3)
    await job.add(50, first=4)
    parked = await job.taken()

    await job.spread()
    freed = await job.taken()
    await job.settle(2)
    after = await job.taken()

    assert not await job.ledger.is_parked()
    assert (parked, freed, after) == ([], [2, 4], [1])


async def test_a_cancelled_job_of_which_nothing_is_left_is_ended_when_it_is_freed(job: Spread) -> None:
    """It was parked when it was cancelled, and all that was sent has come to its end before."""
    await job.add(10, 20, 30)
    await job.batches.finish_planning(FENCE)
    await job.redis.hset(f"{JOB}:ledger", "parked", 1)
    for batch in (3, 2):
        await job.settle(batch)
    await job.ledger.cancel("it was cancelled.")

    await job.spread()

    assert await job.batches.is_to_be_ended()


async def test_a_parked_job_of_which_nothing_is_sent_any_more_goes_on_when_it_is_freed(job: Spread) -> None:
    """All that was sent has come to its end meanwhile; what waits has to be sent by somebody."""
    await job.add(10, 20, 30)
    await job.batches.finish_planning(FENCE)
    await job.taken()
    await job.redis.hset(f"{JOB}:ledger", "parked", 1)
    for batch in (3, 2):
        await job.settle(batch)

    await job.spread()

    assert await job.taken() == [1]


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_comes_in_whatever_order_each_batch_is_sent_and_settled_and_the_job_ended_once(
    redis: Redis, seed: int
) -> None:
    """Against a model of sets: calls that come twice, copies of messages, parking, cancelling."""
    chance = random.Random(seed)  # noqa: S311 - a schedule, no secret
    spread = Spread(redis, most_sent=chance.randint(1, 4))
    await spread.begin()
    model = _Model(spread, chance, batches=chance.randint(0, 12))

    await model.run()

    assert model.is_cancelled or model.sent == model.settled == set(range(1, model.added + 1))
    assert model.settled <= model.sent
    assert await spread.counted("settled") == [len(model.settled)]
    assert not await redis.exists(f"{JOB}:batches", f"{JOB}:waiting", f"{JOB}:sent")
    await Outbox(redis, JOB, ADDRESS, FENCE).discard()
    for batch in sorted(model.sent):
        await spread.settle(batch)
    await spread.batches.finish_planning(FENCE)
    assert not await spread.batches.is_to_be_ended()
    assert await spread.taken() == []


class _Model:
    """Does what workers do to a job, in a random order, and knows by plain sets what has to be there."""

    def __init__(self, spread: Spread, chance: random.Random, *, batches: int) -> None:
        self.sent: set[int] = set()
        self.settled: set[int] = set()
        self.added = 0
        self.is_cancelled = False
        self._spread = spread
        self._chance = chance
        self._to_be_added = batches
        self._is_planned = False
        self._is_parked = False
        self._messages: list[int] = []

    async def run(self) -> None:
        """Go on until the job can be ended."""
        steps = [self._add, self._plan, self._take, self._take, self._copy, self._again]
        rare = [self._park, self._cancel]
        for _ in range(2000):
            await self._chance.choice(rare if self._chance.random() < 0.02 else steps)()
            await self._collect()
            if await self._end():
                return
        raise AssertionError(f"It never ended: {self._messages}, {self.sent - self.settled} are sent.")

    async def _add(self) -> None:
        if self._is_planned or not self._to_be_added:
            return
        count = self._chance.randint(1, self._to_be_added)
        sizes = [self._chance.randint(0, 3) for _ in range(count)]
        for _ in range(self._chance.randint(1, 2)):
            is_added = await self._spread.add(*sizes, first=self.added + 1)
            assert is_added is not self.is_cancelled
        self._to_be_added -= count
        self.added += 0 if self.is_cancelled else count

    async def _plan(self) -> None:
        if not self._to_be_added:
            await self._spread.batches.finish_planning(FENCE)
            self._is_planned = True

    async def _take(self) -> None:
        if not self._messages:
            return
        batch = self._messages.pop(self._chance.randrange(len(self._messages)))
        if self._is_parked and self._chance.random() < 0.5:
            return  # acknowledged, since the job is parked
        if await self._spread.batches.part(batch) is None:
            assert batch in self.settled
            return
        await self._spread.settle(batch)
        self.settled.add(batch)

    async def _copy(self) -> None:
        if self._messages:
            self._messages.append(self._chance.choice(self._messages))

    async def _again(self) -> None:
        if self._is_parked or self._chance.random() < 0.1:
            await self._spread.spread()
            self._is_parked = False

    async def _park(self) -> None:
        await self._spread.redis.hset(f"{JOB}:ledger", "parked", 1)
        self._is_parked = True

    async def _cancel(self) -> None:
        assert await self._spread.ledger.cancel("it was cancelled.")
        self.is_cancelled = True

    async def _collect(self) -> None:
        new = await self._spread.taken()
        assert not (self._is_parked and new)
        assert self.settled.isdisjoint(new)
        self._messages += new
        self.sent |= set(new)
        assert len(self.sent - self.settled) <= self._spread.batches._most_sent

    async def _end(self) -> bool:
        left = set() if self.is_cancelled else set(range(1, self.added + 1)) - self.settled
        is_over = self._is_planned and not left and not self.sent - self.settled
        is_to_be_ended = await self._spread.batches.is_to_be_ended()
        if not self.is_cancelled:
            assert is_to_be_ended == is_over
        return is_to_be_ended
