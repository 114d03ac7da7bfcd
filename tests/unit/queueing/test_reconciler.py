"""Ends that nobody delivered: found in a real broker, delivered by whoever looks."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis

from worker.libsafe.errors import JobAddress, LibsafeError, NotAuthorizedError, PlatformBusyError
from worker.libsafe.models import JobStatus
from worker.libsafe.names import UNDELIVERED, batch_name, batch_named, job_name
from worker.libsafe.outbox import Outbox
from worker.libsafe.reports import EndOfBatch, MessageReport, StatusReport
from worker.queueing.app import TASK
from worker.queueing.dead_letters import DeadLetter
from worker.queueing.lease import Lease, Leases
from worker.queueing.reconciler import Reconciler


class Deliveries:
    """Note what is to be delivered, and fail as told."""

    def __init__(self, outcomes: list[LibsafeError | None]) -> None:
        self.outcomes = outcomes
        self.names: list[str] = []
        self.asked: list[JobAddress] = []

    async def deliver(self, name: str, address: JobAddress) -> None:
        """Deliver."""
        self.names.append(name)
        self.asked.append(address)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome


class Letters:
    """Keep dead letters in memory."""

    def __init__(self) -> None:
        self.kept: list[DeadLetter] = []
        self.parked: list[DeadLetter] = []

    def keep(self, letter: DeadLetter) -> str:
        """Keep one."""
        self.kept.append(letter)
        return "1"

    def park(self, letter: DeadLetter) -> None:
        """Keep one of a whole job."""
        self.parked.append(letter)


async def ended(redis: Redis, job_id: str) -> JobAddress:
    """Leave the end of a job in its outbox, as a worker that died."""
    address = JobAddress("http://platform", SecretStr("k"), job_id)
    lease = await Leases(redis, 60).take(job_name(address))
    assert isinstance(lease, Lease)
    outbox = Outbox(redis, job_name(address), address, lease)
    await outbox.put(MessageReport("summary"), StatusReport(JobStatus.COMPLETED))
    return address


async def ended_batch(redis: Redis, job_id: str) -> str:
    """Leave the end of a batch in its outbox, as a worker that died, and give its name."""
    address = JobAddress("http://platform", SecretStr("k"), job_id)
    name = batch_name(job_name(address), 3)
    lease = await Leases(redis, 60).take(name)
    assert isinstance(lease, Lease)
    await Outbox(redis, name, address, lease).put(EndOfBatch(3, is_broken=False))
    return name


async def is_forgotten(redis: Redis, name: str) -> None:
    """Wait until nobody looks for an end any more."""
    while await redis.sismember(UNDELIVERED, name):  # type: ignore[misc]  # noqa: ASYNC110 - redis types it for both its clients; it sets no event
        await asyncio.sleep(0.001)


async def reconciled(
    redis: Redis, outcomes: list[LibsafeError | None], is_over: Callable[[Any, Letters], bool]
) -> tuple[Any, Letters]:
    """Run a reconciler until the test has seen enough."""
    deliveries, letters = Deliveries(outcomes), Letters()
    reconciler = Reconciler(redis, deliveries, letters, pause_seconds=0.01)  # type: ignore[arg-type]  # they do as the real ones
    running = asyncio.create_task(reconciler.run())
    while not is_over(deliveries, letters):  # noqa: ASYNC110 - letters are kept in a thread
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
    return deliveries, letters


async def test_every_undelivered_end_is_delivered(redis: Redis) -> None:
    """Those that several dead workers have left, in one look."""
    addresses = [await ended(redis, str(number)) for number in range(3)]

    deliveries, _ = await reconciled(redis, [], lambda deliveries, _: len(deliveries.asked) > 2)

    assert sorted(address.job_id for address in deliveries.asked[:3]) == [
        address.job_id for address in addresses
    ]


async def test_the_undelivered_end_of_a_batch_is_delivered_under_its_own_name(redis: Redis) -> None:
    """Its job is not at its end yet, but waits for this batch."""
    name = await ended_batch(redis, "299")

    deliveries, _ = await reconciled(redis, [], lambda deliveries, _: bool(deliveries.asked))

    assert deliveries.names[0] == name
    assert deliveries.asked[0].job_id == "299"


async def test_a_batch_that_the_platform_will_not_take_parks_its_job(redis: Redis) -> None:
    """The letter holds the job's payload, by which it goes on when somebody has seen to it."""
    name = await ended_batch(redis, "299")
    job = batch_named(name)[0]
    await redis.hset(f"{job}:payload", "document", json.dumps({"a": "payload"}))  # type: ignore[misc]  # redis types it for both its clients

    refused: list[LibsafeError | None] = [NotAuthorizedError("the key was refused")]
    _, letters = await reconciled(redis, refused, lambda _, letters: bool(letters.parked))

    assert letters.kept == []
    assert letters.parked == [
        DeadLetter(reason="the key was refused", task=TASK, job_id="299", job=job, payload={"a": "payload"})
    ]


async def test_a_batch_whose_job_is_over_makes_no_letter(redis: Redis) -> None:
    """There is nothing left to go on with."""
    name = await ended_batch(redis, "299")
    refused: list[LibsafeError | None] = [NotAuthorizedError("the key was refused")]

    deliveries, letters = Deliveries(refused), Letters()
    reconciler = Reconciler(redis, deliveries, letters, pause_seconds=0.01)  # type: ignore[arg-type]  # as above
    running = asyncio.create_task(reconciler.run())
    await is_forgotten(redis, name)
    running.cancel()
    await asyncio.wait([running])

    assert (deliveries.names, letters.kept, letters.parked) == ([name], [], [])


async def test_a_platform_that_is_away_is_asked_again_later(redis: Redis) -> None:
    """Nothing is given up, and the time that it asks for is left to it."""
    address = await ended(redis, "299")
    busy = PlatformBusyError("later", retry_after_seconds=0.02)

    deliveries, letters = await reconciled(
        redis, [busy, busy], lambda deliveries, _: len(deliveries.asked) > 2
    )

    assert deliveries.asked[:3] == [address] * 3
    assert letters.kept == []


async def test_an_end_that_the_platform_will_not_take_is_put_aside(redis: Redis) -> None:
    """Somebody has to look at it; nobody asks again meanwhile."""
    address = await ended(redis, "299")

    refused: list[LibsafeError | None] = [NotAuthorizedError("the key was refused")]
    deliveries, letters = await reconciled(redis, refused, lambda _, letters: bool(letters.kept))

    assert deliveries.names == [job_name(address)]
    assert [(letter.job_id, letter.job) for letter in letters.kept] == [("299", job_name(address))]
