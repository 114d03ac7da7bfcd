"""What becomes of a message: its job or batch is run, it comes again later, or it is put aside.

Messages come at least once, and copies of one come at the same time: after each reset of a connection Celery
puts every message that is worked on back into the queue. So a message says only that something is to be done;
who does it is decided by the lease of the job or of the batch, and whether it is done already by its end.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import structlog
from redis.asyncio import Redis

from worker.jobs.batches import PLANNING, Batches
from worker.jobs.context import Books
from worker.jobs.ledger import Ledger
from worker.jobs.progress import Show
from worker.jobs.run import JobEnd
from worker.jobs.runner import JobRunner
from worker.jobs.stopping import ENDS_JOB, Stop, StoppedError, StopReason
from worker.libsafe.errors import JobAddress, JobTakenOverError, LibsafeError, PayloadError
from worker.libsafe.names import batch_named
from worker.libsafe.outbox import Outbox
from worker.libsafe.payload import Payload
from worker.queueing.app import QUEUE, TASK
from worker.queueing.assignment import Assignment, Limits, read_batch, read_payload
from worker.queueing.fate import Fate, Verdict, verdict_on
from worker.queueing.lease import Lease, Leases, NotTaken
from worker.queueing.message import envelope

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message's turn: what it asks for, and what its task has for it."""

    assignment: Assignment
    delivery_tag: str
    stop: Stop
    show: Show


class Deliveries:
    """Brings messages to their fate, many at once.

    Args:
        redis: The broker's, with answers decoded.
        leases: Of jobs and batches.
        runner: Runs them.
        limits: What all workers together may do.
        most_attempts: Runs that may die over a job or a batch, without a file done, before it is given up.
    """

    def __init__(
        self, redis: Redis, leases: Leases, runner: JobRunner, *, limits: Limits, most_attempts: int
    ) -> None:
        self._redis = redis
        self._leases = leases
        self._runner = runner
        self._limits = limits
        self._most_attempts = most_attempts
        self._given_up = (
            f"{most_attempts} workers ended over it without a file done; see what it does to them."
        )
        self._running: set[str] = set()

    def __repr__(self) -> str:
        return f"<Deliveries, {len(self._running)} runs>"

    async def handle(self, document: dict[str, Any], delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Bring the message of a payload to its fate.

        Args:
            document: The payload, decoded.
            delivery_tag: Celery's, the same for each copy of a message.
            stop: Ends the run before its time.
            show: Is shown the job's progress.
        """
        try:
            assignment = read_payload(document)
        except PayloadError as error:
            return Verdict(Fate.PUT_ASIDE, str(error))
        return await self._handle(_Turn(assignment, delivery_tag, stop, show))

    async def handle_batch(
        self, document: dict[str, Any], delivery_tag: str, stop: Stop, show: Show
    ) -> Verdict:
        """Bring the message of a batch to its fate; as `handle`, but for the document.

        Args:
            document: As in `read_batch`.
            delivery_tag: As above.
            stop: As above.
            show: As above.
        """
        job = document["job"]
        assignment = await read_batch(self._redis, document)
        if assignment is None:
            return Verdict(Fate.ACKNOWLEDGED, "the job is over.", job)
        if isinstance(assignment.payload, PayloadError):
            return Verdict(Fate.PUT_ASIDE, str(assignment.payload), job, document=assignment.parks)
        # Before its lease is taken: whoever frees the job sends again what nobody has the lease of.
        if await Ledger(self._redis, job).is_parked():
            return Verdict(Fate.ACKNOWLEDGED, "the job waits for its dead letter to be seen to.", job)
        return await self._handle(_Turn(assignment, delivery_tag, stop, show))

    async def deliver(self, name: str, address: JobAddress) -> None:
        """Bring the end of a job or a batch to its platform, unless somebody is about it already.

        Raises:
            LibsafeError: The platform is away, or does not take it.
        """
        if name in self._running:
            return
        job, batch = batch_named(name)
        about = {"job_id": address.job_id, **({"batch": batch} if batch else {})}
        # Not only a task's lines are about a job.
        with structlog.contextvars.bound_contextvars(**about):
            await self._deliver(name, address)
        if batch:
            await self._end_if_last(job, address)

    async def _deliver(self, name: str, address: JobAddress) -> None:
        lease = await self._leases.take(name, to_run=False)
        if isinstance(lease, NotTaken):
            return
        books = self._books(lease, address)
        async with self._kept(lease, Stop()):
            # Whoever had the lease before may have delivered it, or the broker lost its data. Then only what
            # taking the lease has left there is to be taken away, as with a late copy of a batch's message.
            if books.batch and (lease.ended or await books.batches.part(books.batch) is None):
                await self._settle(lease, address, books)
            elif not books.batch and (lease.ended or await books.batches.is_to_be_ended()):
                await self._runner.deliver(address, books, is_ended=bool(lease.ended))

    async def _handle(self, turn: _Turn) -> Verdict:
        assignment = turn.assignment
        try:
            self._runner.check(assignment.address)
        except LibsafeError as error:
            return Verdict(Fate.PUT_ASIDE, str(error), assignment.job, document=assignment.parks)
        if assignment.name in self._running:
            # Waiting here would take the place of another job.
            return Verdict(Fate.COMES_AGAIN, "this worker runs the job already.", assignment.job)
        try:
            verdict = await self._take_turn(turn)
            if verdict.fate is Fate.ACKNOWLEDGED:
                await self._have_job_go_on(assignment)
        except Exception:  # noqa: BLE001 - the others go on, and this message comes again
            _log.exception("A message met an error of the hash worker itself")
            return Verdict(Fate.LET_GO, "the run met an error of its own.", assignment.job)
        return verdict

    async def _take_turn(self, turn: _Turn) -> Verdict:
        assignment = turn.assignment
        self._running.add(assignment.name)
        try:
            return await self._run(turn)
        finally:
            self._running.discard(assignment.name)

    async def _run(self, turn: _Turn) -> Verdict:
        assignment = turn.assignment
        try:
            lease = await self._take(assignment, turn.stop)
        except StoppedError as stopped:
            return verdict_on(stopped, assignment.job, is_ended=False)
        if isinstance(lease, NotTaken):
            return Verdict(Fate.COMES_AGAIN, lease.value, assignment.job)
        return replace(await self._run_under(lease, turn), attempt=lease.attempts)

    async def _run_under(self, lease: Lease, turn: _Turn) -> Verdict:
        assignment = turn.assignment
        lease.tags.add(turn.delivery_tag)
        books = self._books(lease, assignment.address)
        try:
            with structlog.contextvars.bound_contextvars(attempt=lease.attempts):
                async with self._kept(lease, turn.stop):
                    verdict = await self._end_of(lease, turn, books)
        except (StoppedError, LibsafeError) as error:
            if lease.is_gone:
                return await self._begin_anew(assignment)
            is_ended = books.outbox.is_ended
            return verdict_on(error, assignment.job, is_ended=is_ended, document=assignment.parks)
        return verdict

    async def _take(self, assignment: Assignment, stop: Stop) -> Lease | NotTaken:
        """Take the lease; a broker that is away is waited for, but not by a worker that ends."""
        rooms = assignment.rooms(self._limits)
        try:
            with stop:
                return await self._leases.take(assignment.name, rooms=rooms)
        except StoppedError as stopped:
            if stopped.reason not in ENDS_JOB:
                raise
        # The job's end has to be told, and only who has the lease may do so.
        return await self._leases.take(assignment.name, rooms=rooms)

    async def _end_of(self, lease: Lease, turn: _Turn, books: Books) -> Verdict:
        """Bring a job or a batch to its end; whatever stands in the way is raised."""
        if turn.assignment.batch is None:
            return await self._end_of_job(lease, turn, books)
        await self._end_of_batch(lease, turn, books)
        return Verdict(Fate.ACKNOWLEDGED, "the batch is done.", turn.assignment.job)

    async def _end_of_job(self, lease: Lease, turn: _Turn, books: Books) -> Verdict:
        """Bring a job to its end, or have it go on in batches; whatever stands in the way is raised."""
        assignment = turn.assignment
        address, payload, job = assignment.address, assignment.payload, assignment.job
        if lease.ended:
            if not await books.outbox.is_empty():
                # This payload may hold a key that works, where the one before did not.
                await self._runner.deliver(address, books, is_ended=True)
            return Verdict(Fate.ACKNOWLEDGED, f"the job has ended {lease.ended} before.", job)
        if lease.attempts > self._most_attempts:
            return await self._give_up(assignment, books)
        if isinstance(payload, PayloadError):
            _log.warning("A payload can't be used", faults=[str(fault) for fault in payload.faults])
            if (await books.batches.planning()).is_spread:
                return Verdict(Fate.ACKNOWLEDGED, "the job runs with another payload.", job)
            end = await self._runner.fail(address, books, str(payload))
        else:
            end = await self._runner.run(payload, books, assignment.sending, turn.stop, turn.show)
        told = "goes on in batches" if end is JobEnd.SPREAD else f"is {end}"
        return Verdict(Fate.ACKNOWLEDGED, f"the job {told}.", job)

    async def _end_of_batch(self, lease: Lease, turn: _Turn, books: Books) -> None:
        """Settle a batch, or plan the job."""
        payload = turn.assignment.payload
        assert isinstance(payload, Payload), "only a payload that can be used is spread"
        if turn.assignment.batch == PLANNING:
            await self._plan(lease, turn, payload, books)
            return
        part = await books.batches.part(books.batch)
        if part is None:
            # A late copy; what taking its lease has left in the broker goes again.
            await books.batches.settle(lease, books.batch, is_broken=False)
            return
        if lease.ended:
            await self._settle(lease, payload.address, books)
        elif lease.attempts > self._most_attempts:
            await self._runner.break_off(payload.address, books, self._given_up)
        else:
            await self._runner.run_batch(payload, part, books, turn.stop, turn.show)

    async def _plan(self, lease: Lease, turn: _Turn, payload: Payload, books: Books) -> None:
        planning = await books.batches.planning()
        if lease.ended or planning.is_planned or not planning.is_spread:
            return
        if lease.attempts > self._most_attempts:
            await self._runner.fail(payload.address, books, self._given_up)
        else:
            await self._runner.plan(payload, books, turn.stop)

    async def _settle(self, lease: Lease, address: JobAddress, books: Books) -> None:
        """Deliver a batch whose end was put."""
        await self._runner.deliver_batch(address, books, is_broken=lease.ended == "broken")

    async def _have_job_go_on(self, assignment: Assignment) -> None:
        """Have a job that is spread planned, or ended, now that its lease is free."""
        if assignment.batch is None:
            await self._batches(assignment.job).send_planning()
        else:
            await self._end_if_last(assignment.job, assignment.address)

    async def _end_if_last(self, job: str, address: JobAddress) -> None:
        """End a job if all its batches are settled; what can't be delivered now is the reconciler's."""
        if not await self._batches(job).is_to_be_ended():
            return
        try:
            await self.deliver(job, address)
        except LibsafeError as error:
            _log.warning("The end of a job is not delivered yet", reason=str(error))

    async def _give_up(self, assignment: Assignment, books: Books) -> Verdict:
        """Fail a job over which workers die; should that be what they die of, it is at least put aside."""
        try:
            await self._runner.fail(assignment.address, books, self._given_up)
        except LibsafeError:
            if not books.outbox.is_ended:
                raise
        except Exception:  # noqa: BLE001 - it is put aside, whatever it does
            _log.exception("A job that is given up met an error of the hash worker itself")
        return Verdict(Fate.PUT_ASIDE, self._given_up, assignment.job)

    async def _begin_anew(self, assignment: Assignment) -> Verdict:
        """Put the payload on the queue once more: the broker has lost all it knew, the message too."""
        _log.warning("The broker has lost its data, the job begins anew")
        message = envelope(TASK, assignment.document, queue=QUEUE, task_id=secrets.token_hex(16))
        await self._redis.lpush(QUEUE, message)  # type: ignore[misc]  # redis types it for both its clients
        return Verdict(Fate.LET_GO, "the broker has lost its data.", assignment.job)

    def _books(self, lease: Lease, address: JobAddress) -> Books:
        job = batch_named(lease.name)[0]
        outbox = Outbox(self._redis, lease.name, address, lease)
        return Books(outbox, Ledger(self._redis, job), self._batches(job))

    def _batches(self, job: str) -> Batches:
        return Batches(self._redis, job, most_sent=self._limits.container_batches)

    @asynccontextmanager
    async def _kept(self, lease: Lease, stop: Stop) -> AsyncIterator[None]:
        """Renew a lease while the block runs, stop the run if it is lost, and give it back in the end."""
        keeping = asyncio.create_task(
            self._leases.keep(lease, lambda: stop.request(StopReason.LEASE_LOST)),
            name=f"lease of {lease.name}",
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
