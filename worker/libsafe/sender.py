"""The sender: brings the outbox of a job or of a batch to the platform in order, beside the hashing."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import structlog

from worker import metrics
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import (
    JobTakenOverError,
    LibsafeError,
    NotAuthorizedError,
    PermanentLibsafeError,
    PlatformBusyError,
    RejectedError,
    TransientLibsafeError,
)
from worker.libsafe.models import TERMINAL, JobStatus
from worker.libsafe.outbox import Entry, FileDone, Outbox, Refusals
from worker.libsafe.reports import (
    EndOfBatch,
    HashReport,
    MessageReport,
    Report,
    ReportPolicy,
    StatusReport,
)

# Between two rounds of the client's attempts, while the job has more to do than to be told.
_PAUSE_SECONDS = 5.0
# What is no refusal of one report: no other would fare better.
_STOP = (NotAuthorizedError, JobTakenOverError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """An entry in the queue, or none: a mark that is done when all before it are."""

    entry: Entry | None
    permits: int
    done: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = field(default_factory=time.monotonic)

    @property
    def weight(self) -> int:
        return len(self.entry.reports) if self.entry else 0


class ReportSender:
    """Send the reports of one outbox, in order where the order matters.

    The reports of one `put` (one file's) go one after the other. Up to `concurrent_entries` entries are on
    their way at once. The entry that is the end is a barrier: it goes when all before it are accepted or
    refused, and nothing goes after it. So a job's last message belongs in the `put` of its end.

    What the outbox holds already, of a run that died, goes first. Each report carries an Idempotency-Key made
    of its place in the outbox, the same whoever sends it and however often.

    A report that the platform refuses for good is kept in the outbox's refusals and the others go on; a
    COMPLETED after a refusal becomes FAILED, with a message for each hash that was not stored. While the
    platform is away, sending goes on trying; it gives up when nothing is left to do but to send. A refused
    key stops it at once. What was not sent stays in the outbox.

    Args:
        client: To the platform.
        job_id: The job.
        outbox: The job's, or that of one of its batches.
        policy: How reports are said in the platform's words.
        concurrent_entries: Entries on their way at once.
        max_queued: Reports not yet accepted from which on `put` waits; 10,000 of 500 bytes take 5 MB.
    """

    def __init__(
        self,
        client: PlatformClient,
        job_id: str,
        outbox: Outbox,
        policy: ReportPolicy,
        *,
        concurrent_entries: int = 8,
        max_queued: int = 10_000,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._outbox = outbox
        self._policy = policy
        self._concurrent_entries = concurrent_entries
        self._max_queued = max_queued
        self._places: asyncio.Queue[_Place] = asyncio.Queue()
        self._unsent: set[_Place] = set()
        self._permits = asyncio.Semaphore(concurrent_entries)
        self._room = asyncio.Event()
        self._queued = 0
        self._is_finishing = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped_by: Exception | None = None
        self._told: JobStatus | None = None
        self._dispatcher: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = f"stopped by {type(self._stopped_by).__name__}" if self._stopped_by else "sending"
        return f"<ReportSender of job {self._job_id} {state}, {self._queued} queued>"

    async def __aenter__(self) -> Self:
        """Begin with what the outbox holds."""
        for entry in await self._outbox.entries():
            self._enqueue(entry)
        self._dispatcher = asyncio.create_task(self._dispatch(), name=f"reports of job {self._job_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop sending; the outbox keeps what was not sent."""
        assert self._dispatcher is not None
        self._dispatcher.cancel()
        await asyncio.wait([self._dispatcher])
        for place in self._unsent:
            metrics.OUTBOX.leave(place)

    async def put(self, *reports: Report, done: FileDone | None = None) -> None:
        """Put reports that belong together into the outbox, and queue them; see `Outbox.put`.

        Waits while `max_queued` are queued; the end does not.

        Raises:
            JobTakenOverError: Another run has the lease, or the end was put.
            LibsafeError: What has stopped the sender.
        """
        self._check_sending()
        is_end = any(isinstance(report, StatusReport | EndOfBatch) for report in reports)
        while self._queued >= self._max_queued and self._stopped_by is None and not is_end:
            self._room.clear()
            await self._room.wait()
        self._raise_if_stopped()
        self._enqueue(await self._outbox.put(*reports, done=done))

    async def look(self, seconds: float) -> None:
        """Wait for some time, or until the sender is stopped.

        Raises:
            LibsafeError: What has stopped it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        self._raise_if_stopped()

    async def finish(self) -> JobStatus | None:
        """Wait until the platform has all that was put.

        Returns:
            The status that it was told at the job's end; None where no end was put, or the job had ended
            otherwise.

        Raises:
            TransientLibsafeError: It is away; the rest stays in the outbox.
            LibsafeError: What has stopped the sender, such as a refused key.
        """
        self._check_sending()
        self._is_finishing.set()
        await self._enqueue(None).done.wait()
        self._raise_if_stopped()
        return self._told

    def _enqueue(self, entry: Entry | None) -> _Place:
        is_barrier = entry is None or entry.is_end
        place = _Place(entry, permits=self._concurrent_entries if is_barrier else 1)
        self._queued += place.weight
        if place.weight:
            self._unsent.add(place)
            metrics.OUTBOX.enter(place, place.weight, place.since)
        self._places.put_nowait(place)
        return place

    def _check_sending(self) -> None:
        if self._dispatcher is None or self._dispatcher.done():
            raise RuntimeError("A report was put outside the sender's context, where nobody sends it.")

    def _raise_if_stopped(self) -> None:
        if self._stopped_by is not None:
            raise self._stopped_by

    async def _dispatch(self) -> None:
        async with asyncio.TaskGroup() as sending:
            while True:
                place = await self._places.get()
                # Only this loop takes permits, so a barrier that waits for all of them cannot meet another.
                for _ in range(place.permits):
                    await self._permits.acquire()
                sending.create_task(self._pass(place))

    async def _pass(self, place: _Place) -> None:
        try:
            if place.entry is not None and self._stopped_by is None:
                await self._send_entry(place.entry)
                metrics.STAGE_SECONDS.labels("report").observe(time.monotonic() - place.since)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may overtake what was not sent
            self._stop(error)
        finally:
            self._unsent.discard(place)
            metrics.OUTBOX.leave(place)
            self._queued -= place.weight
            self._room.set()
            for _ in range(place.permits):
                self._permits.release()
            place.done.set()

    async def _send_entry(self, entry: Entry) -> None:
        if entry.is_end:
            await self._send_end(entry)
            await self._outbox.accept(entry)
            return
        refused = []
        for index, report in enumerate(entry.reports):
            error = await self._refusal_of(report, f"{self._outbox.scope}:{entry.id}:{index}")
            if error is not None:
                refused.append((index, _told_instead(report, error)))
        await self._outbox.accept(entry, refused)

    async def _send_end(self, entry: Entry) -> None:
        """Tell the end as it was put, or FAILED where the platform did not take everything before."""
        for left in await self._outbox.entries():
            # A put that was cut short may have been kept all the same.
            if left.id != entry.id:
                await self._send_entry(left)
        reports = list(entry.reports)
        if not isinstance(reports[-1], EndOfBatch):
            refusals = await self._outbox.refusals()
            if refusals.count:
                reports = _after_refusals(reports, refusals)
        for index, report in enumerate(reports):
            key = f"{self._outbox.scope}:{entry.id}:{index}"
            if isinstance(report, StatusReport):
                await self._send_status(report, key)
            else:
                await self._refusal_of(report, key)

    async def _send_status(self, report: StatusReport, idempotency_key: str) -> None:
        try:
            await self._persist(report, idempotency_key)
        except _STOP:
            raise
        except PermanentLibsafeError as error:
            if not await has_ended(self._client, self._job_id):
                raise
            _log.warning("The job had ended already", reason=str(error))
        else:
            self._told = report.status
            metrics.JOBS.labels(report.status.value).inc()

    async def _refusal_of(self, report: Report, idempotency_key: str) -> PermanentLibsafeError | None:
        """Send a report; give why the platform does not take it, if it does not."""
        try:
            await self._persist(report, idempotency_key)
        except _STOP:
            raise
        except PermanentLibsafeError as error:
            _log.warning("The platform refused a report", report=type(report).__name__, reason=str(error))
            metrics.REPORTS.labels("refused").inc()
            return error
        except TransientLibsafeError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug must not hold up the end for ever
            _log.exception("A report met an error of the hash worker itself", report=type(report).__name__)
            return RejectedError(f"the hash worker itself met an error ({type(error).__name__}).")
        return None

    async def _persist(self, report: Report, idempotency_key: str) -> None:
        """Send a report, again and again while the platform is away and the job has other things to do."""
        while True:
            await self._outbox.fence.confirm()
            try:
                await deliver(self._client, self._job_id, report, self._policy, idempotency_key)
            except TransientLibsafeError as error:
                if self._is_finishing.is_set():
                    raise
                asked_for = error.retry_after_seconds if isinstance(error, PlatformBusyError) else None
                pause_seconds = max(asked_for or 0.0, _PAUSE_SECONDS)
            else:
                metrics.REPORTS.labels("accepted").inc()
                return
            try:
                async with asyncio.timeout(pause_seconds):
                    await self._is_finishing.wait()
            except TimeoutError:
                continue

    def _stop(self, error: Exception) -> None:
        if self._stopped_by is None:
            self._stopped_by = error
            self._stopped.set()
            reason = str(error) if isinstance(error, LibsafeError) else type(error).__name__
            _log.warning("Reports are not sent any more for now", reason=reason)


async def deliver(
    client: PlatformClient, job_id: str, report: Report, policy: ReportPolicy, idempotency_key: str
) -> None:
    """Tell the platform one report, in its words; a hash that it has no name for is not told.

    Raises:
        LibsafeError: It did not take it.
    """
    match report:
        case StatusReport(status):
            await client.set_job_status(job_id, status, idempotency_key)
        case MessageReport(_, _, file_id):
            message_type, text = policy.message(report)
            await client.post_message(job_id, text, message_type, file_id, idempotency_key)
        case HashReport(file_id, algorithm, hex_digest):
            name = policy.hash_name(algorithm)
            if name is not None:
                await client.set_hash(file_id, name, hex_digest, idempotency_key)
        case EndOfBatch():
            pass  # the platform knows of no batches


async def has_ended(client: PlatformClient, job_id: str) -> bool:
    """Ask the platform whether a job has ended.

    Raises:
        NotFoundError: It does not have the job.
        LibsafeError: It does not tell.
    """
    return (await client.job(job_id)).status in TERMINAL


def _told_instead(report: Report, error: PermanentLibsafeError) -> MessageReport:
    """Say at the job's end which hash was not stored; of a refused message there is nothing to say."""
    if not isinstance(report, HashReport):
        return MessageReport("")
    text = f"The {report.algorithm} hash of file {report.file_id} was not stored: {error}"
    return MessageReport(text, level="ERROR", file_id=report.file_id)


def _after_refusals(end: Sequence[Report], refusals: Refusals) -> list[Report]:
    """Make the end of a job of which the platform has not taken all: what is missing, how many, FAILED."""
    *others, summary, _ = end
    assert isinstance(summary, MessageReport), "a job's end is told by a message and a status"
    count = "1 report" if refusals.count == 1 else f"{refusals.count} reports"
    missing = [message for message in refusals.messages if message.text]
    told = replace(summary, text=f"{summary.text} The platform refused {count}.")
    return [*missing, *others, told, StatusReport(JobStatus.FAILED)]
