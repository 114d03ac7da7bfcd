"""What becomes of a message: its job is run, it comes again later, or it is put aside.

Messages come at least once, and copies of one come at the same time: after each reset of a connection Celery
puts every message that is worked on back into the queue. So a message says only that a job is to be done; who
does it is decided by the job's lease, and whether it is done already by its end in the outbox.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from redis.asyncio import Redis

from worker.jobs.runner import JobRunner
from worker.jobs.stopping import ENDS_JOB, Stop, StoppedError, StopReason
from worker.libsafe.errors import (
    JobAddress,
    JobTakenOverError,
    LibsafeError,
    PayloadError,
    TransientLibsafeError,
)
from worker.libsafe.outbox import Outbox, job_name
from worker.libsafe.payload import Payload
from worker.queueing.lease import Lease, Leases

_log = structlog.get_logger(__name__)


class Fate(StrEnum):
    """What becomes of a message."""

    ACKNOWLEDGED = "acknowledged"
    """The job has ended, and its end is safe."""
    COMES_AGAIN = "comes again"
    """After a pause: the platform is away, or another worker has the job."""
    GOES_BACK = "goes back"
    """At once, for another worker."""
    LET_GO = "let go"
    """It is left as it is in the broker: another worker may live on it, or it comes again by itself."""
    PUT_ASIDE = "put aside"
    """Among the dead letters: somebody has to look at it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A message's fate, and why.

    Args:
        fate: What becomes of it.
        reason: A sentence's end, for the log and for the dead letters.
        job: The job's name in Redis, if it has one.
        is_away: It comes again because the platform is away.
    """

    fate: Fate
    reason: str
    job: str | None = None
    is_away: bool = False


@dataclass(frozen=True, slots=True)
class _Assignment:
    """What a message asks for: a payload to run, or one to refuse, and where to tell of it."""

    job: str
    address: JobAddress
    payload: Payload | PayloadError


class Deliveries:
    """Brings messages to their fate, many at once.

    Args:
        redis: The broker's, with answers decoded.
        leases: Of the jobs.
        runner: Runs them.
        most_attempts: Runs that may die over a job, without a file done, before it is FAILED.
    """

    def __init__(self, redis: Redis, leases: Leases, runner: JobRunner, *, most_attempts: int) -> None:
        self._redis = redis
        self._leases = leases
        self._runner = runner
        self._most_attempts = most_attempts
        self._running: set[str] = set()

    def __repr__(self) -> str:
        return f"<Deliveries, {len(self._running)} jobs running>"

    async def handle(self, document: dict[str, Any], delivery_tag: str, stop: Stop) -> Verdict:
        """Bring one message to its fate.

        Args:
            document: The payload, decoded.
            delivery_tag: Celery's, the same for each copy of a message.
            stop: Ends the run before its time.
        """
        try:
            assignment = _read(document)
            self._runner.check(assignment.address)
        except LibsafeError as error:
            # No job's id, no key, or an address that no key is sent to: the platform can't be told.
            return Verdict(Fate.PUT_ASIDE, str(error))
        with structlog.contextvars.bound_contextvars(job_id=assignment.address.job_id):
            if assignment.job in self._running:
                # Waiting here would take the place of another job.
                return Verdict(Fate.COMES_AGAIN, "this worker runs the job already.", assignment.job)
            self._running.add(assignment.job)
            try:
                return await self._run(assignment, delivery_tag, stop)
            except Exception:  # noqa: BLE001 - the others go on, and this message comes again
                _log.exception("A message met an error of the hash worker itself")
                return Verdict(Fate.LET_GO, "the run met an error of its own.", assignment.job)
            finally:
                self._running.discard(assignment.job)

    async def deliver(self, job: str, address: JobAddress) -> None:
        """Bring the end of a job to its platform, unless somebody is about it already.

        Raises:
            LibsafeError: The platform is away, or does not take it.
        """
        if job in self._running:
            return
        lease = await self._leases.take(job, to_run=False)
        if lease is None:
            return
        async with self._kept(lease, Stop()):
            await self._runner.deliver(address, Outbox(self._redis, job, address, lease))

    async def _run(self, assignment: _Assignment, delivery_tag: str, stop: Stop) -> Verdict:
        job = assignment.job
        while True:
            try:
                lease = await self._take(job, stop)
            except StoppedError as stopped:
                return _verdict_on(stopped, job, is_ended=False)
            if lease is None:
                return Verdict(Fate.COMES_AGAIN, "another worker has the job.", job)
            lease.tags.add(delivery_tag)
            outbox = Outbox(self._redis, job, assignment.address, lease)
            try:
                async with self._kept(lease, stop):
                    return await self._end_of(lease, assignment, outbox, stop)
            except (StoppedError, LibsafeError) as error:
                if not lease.is_gone:
                    return _verdict_on(error, job, is_ended=outbox.is_ended)
            # The broker has lost all it knew, the message too: nobody else will do it.
            _log.warning("The broker has lost its data, the job begins anew")
            stop.renew()

    async def _take(self, job: str, stop: Stop) -> Lease | None:
        """Take the lease; a broker that is away is waited for, but not by a worker that ends."""
        try:
            with stop:
                return await self._leases.take(job)
        except StoppedError as stopped:
            if stopped.reason not in ENDS_JOB:
                raise
        # The job's end has to be told, and only who has the lease may do so.
        return await self._leases.take(job)

    async def _end_of(self, lease: Lease, assignment: _Assignment, outbox: Outbox, stop: Stop) -> Verdict:
        """Bring a job to its end; whatever stands in the way is raised."""
        address, payload = assignment.address, assignment.payload
        if lease.ended:
            if not await outbox.is_empty():
                # This payload may hold a key that works, where the one before did not.
                await self._runner.deliver(address, outbox)
            return Verdict(Fate.ACKNOWLEDGED, f"the job has ended {lease.ended} before.", lease.job)
        if lease.attempts > self._most_attempts:
            return await self._give_up(lease, address, outbox)
        if isinstance(payload, PayloadError):
            _log.warning("A payload can't be used", faults=[str(fault) for fault in payload.faults])
            end = await self._runner.fail(address, outbox, str(payload))
        else:
            end = await self._runner.run(payload, outbox, stop)
        return Verdict(Fate.ACKNOWLEDGED, f"the job is {end}.", lease.job)

    async def _give_up(self, lease: Lease, address: JobAddress, outbox: Outbox) -> Verdict:
        """Fail a job over which workers die; should that be what they die of, it is at least put aside."""
        reason = f"{self._most_attempts} workers ended over it without a file done; see what it does to them."
        try:
            await self._runner.fail(address, outbox, reason)
        except LibsafeError:
            if not outbox.is_ended:
                raise
        except Exception:  # noqa: BLE001 - it is put aside, whatever it does
            _log.exception("A job that is given up met an error of the hash worker itself")
        return Verdict(Fate.PUT_ASIDE, reason, lease.job)

    @asynccontextmanager
    async def _kept(self, lease: Lease, stop: Stop) -> AsyncIterator[None]:
        """Renew a lease while the block runs, stop the run if it is lost, and give it back in the end."""
        keeping = asyncio.create_task(
            self._leases.keep(lease, lambda: stop.request(StopReason.LEASE_LOST)),
            name=f"lease of {lease.job}",
        )
        orderly = False
        try:
            yield
            orderly = True
        except JobTakenOverError:
            await self._leases.renew(lease)  # tells whether it is another's, or gone with the broker's data
            raise
        except (LibsafeError, asyncio.CancelledError):
            orderly = True
            raise
        except StoppedError as stopped:
            orderly = stopped.reason is not StopReason.STALLED
            raise
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await self._leases.give_back(lease, orderly=orderly)


def _read(document: dict[str, Any]) -> _Assignment:
    """Read a payload, or what is wrong with it; raise it if nobody can be told."""
    try:
        payload = Payload.parse(document)
    except PayloadError as error:
        if error.job is None:
            raise
        return _Assignment(job_name(error.job), error.job, error)
    return _Assignment(job_name(payload.address), payload.address, payload)


def _verdict_on(error: StoppedError | LibsafeError, job: str, *, is_ended: bool) -> Verdict:
    """Decide on the message of a job that a run did not see to its end on the platform."""
    if isinstance(error, StoppedError) and not is_ended:
        fate = Fate.LET_GO if error.reason is StopReason.LEASE_LOST else Fate.GOES_BACK
        return Verdict(fate, f"it was stopped: {error.reason}.", job)
    if isinstance(error, JobTakenOverError):
        return Verdict(Fate.LET_GO, str(error), job)
    if isinstance(error, StoppedError) or is_ended:
        # What the platform does not have yet is the reconciler's.
        return Verdict(Fate.ACKNOWLEDGED, str(error), job)
    if isinstance(error, TransientLibsafeError):
        return Verdict(Fate.COMES_AGAIN, str(error), job, is_away=True)
    return Verdict(Fate.PUT_ASIDE, str(error), job)
