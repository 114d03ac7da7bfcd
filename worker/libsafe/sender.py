"""The sender: brings a job's reports to the platform in order, beside the hashing.

The queue is in memory: what is in it when the process dies is lost.
"""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog

from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import NotAuthorizedError, PermanentLibsafeError
from worker.libsafe.reports import HashReport, MessageReport, Report, ReportPolicy, StatusReport

# A platform may refuse every report of a job of millions of files; the count goes on.
_MOST_REJECTED_KEPT = 1000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Group:
    """Reports in order, the number of the first, and how many of the permits they need."""

    reports: tuple[Report, ...]
    first_sequence: int
    permits: int
    done: asyncio.Event = field(default_factory=asyncio.Event)


class ReportSender:
    """Send one job's reports, in order where the order matters.

    The reports of one `put` (one file's) go one after the other. Up to `concurrent_groups` such groups are on
    their way at once. A group with a `StatusReport` is a barrier: it goes when all before it are accepted or
    rejected, and all after it wait for it. So a job's last message belongs in the `put` of its last status.

    A report that the platform refuses for good is counted and the others go on; the first thousand are kept
    in `rejected`, a status in `refused_status`. A refused key, or a platform that stays away longer than the
    client's attempts, stops the sender: nothing more is sent, and each later `put` and `flush` raises that
    error.

    Args:
        client: To the platform.
        job_id: The job.
        policy: How reports are said in the platform's words.
        token: Tells this run of the job from all others. It is part of each Idempotency-Key: another run puts
            its reports in another order, and with the same keys the platform would take a new report for an
            old one.
        concurrent_groups: Groups on their way at once.
        max_queued: Reports not yet accepted from which on `put` waits; 10,000 of 500 bytes take 5 MB.
    """

    def __init__(
        self,
        client: PlatformClient,
        job_id: str,
        policy: ReportPolicy,
        *,
        token: str,
        concurrent_groups: int = 8,
        max_queued: int = 10_000,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._policy = policy
        self._token = token
        self._concurrent_groups = concurrent_groups
        self._max_queued = max_queued
        self._groups: asyncio.Queue[_Group] = asyncio.Queue()
        self._permits = asyncio.Semaphore(concurrent_groups)
        self._room = asyncio.Event()
        self._queued = 0
        self._sequence = 0
        self._stopped_by: Exception | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self.rejected: list[tuple[Report, PermanentLibsafeError]] = []
        self.rejected_count = 0
        self.refused_status: PermanentLibsafeError | None = None

    def __repr__(self) -> str:
        state = f"stopped by {type(self._stopped_by).__name__}" if self._stopped_by else "sending"
        counts = f"{self._queued} queued, {self.rejected_count} rejected"
        return f"<ReportSender of job {self._job_id} {state}, {counts}>"

    async def __aenter__(self) -> Self:
        self._dispatcher = asyncio.create_task(self._dispatch(), name=f"reports of job {self._job_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Flush when all went well; when leaving by an exception, drop what was not sent."""
        assert self._dispatcher is not None
        try:
            if kind is None:
                await self.flush()
        finally:
            self._dispatcher.cancel()
            await asyncio.wait([self._dispatcher])

    async def put(self, *reports: Report) -> None:
        """Queue reports that belong together; wait only while `max_queued` are queued.

        Raises:
            LibsafeError: What has stopped the sender.
        """
        while self._queued >= self._max_queued and self._stopped_by is None:
            self._room.clear()
            await self._room.wait()
        if reports:
            self._enqueue(reports)

    async def flush(self) -> None:
        """Wait until all that was put so far is accepted or rejected.

        Raises:
            LibsafeError: What has stopped the sender.
        """
        await self._enqueue(()).done.wait()
        self._raise_if_stopped()

    def _enqueue(self, reports: tuple[Report, ...]) -> _Group:
        """Queue a group; one without reports only marks a place, and is done when all before it are."""
        self._raise_if_stopped()
        if self._dispatcher is None or self._dispatcher.done():
            raise RuntimeError("A report was put outside the sender's context, where nobody sends it.")
        barrier = not reports or any(isinstance(report, StatusReport) for report in reports)
        group = _Group(reports, self._sequence, permits=self._concurrent_groups if barrier else 1)
        self._sequence += len(reports)
        self._queued += len(reports)
        self._groups.put_nowait(group)
        return group

    def _raise_if_stopped(self) -> None:
        if self._stopped_by is not None:
            raise self._stopped_by

    async def _dispatch(self) -> None:
        async with asyncio.TaskGroup() as sending:
            while True:
                group = await self._groups.get()
                # Only this loop takes permits, so a barrier that waits for all of them cannot meet another.
                for _ in range(group.permits):
                    await self._permits.acquire()
                sending.create_task(self._send_group(group))

    async def _send_group(self, group: _Group) -> None:
        try:
            for sequence, report in enumerate(group.reports, group.first_sequence):
                if self._stopped_by is None:
                    await self._send(report, f"{self._job_id}:{self._token}:{sequence}")
        finally:
            self._queued -= len(group.reports)
            self._room.set()
            for _ in range(group.permits):
                self._permits.release()
            group.done.set()

    async def _send(self, report: Report, idempotency_key: str) -> None:
        try:
            await self._deliver(report, idempotency_key)
        except NotAuthorizedError as error:
            self._stop(error)
        except PermanentLibsafeError as error:
            self._reject(report, error)
        except Exception as error:  # noqa: BLE001 - a bug stops it too, or `flush` would wait for ever
            self._stop(error)

    def _reject(self, report: Report, error: PermanentLibsafeError) -> None:
        _log.warning("The platform refused a report", report=type(report).__name__, reason=str(error))
        # Without its frames, which would keep the whole call alive as long as the list.
        error = error.with_traceback(None)
        self.rejected_count += 1
        if isinstance(report, StatusReport):
            self.refused_status = error
        elif len(self.rejected) < _MOST_REJECTED_KEPT:
            self.rejected.append((report, error))

    def _stop(self, error: Exception) -> None:
        if self._stopped_by is None:
            self._stopped_by = error
            _log.error("Reports are no longer sent", reason=type(error).__name__)

    async def _deliver(self, report: Report, idempotency_key: str) -> None:
        match report:
            case StatusReport(status):
                await self._client.set_job_status(self._job_id, status, idempotency_key)
            case MessageReport(_, _, file_id):
                message_type, text = self._policy.message(report)
                await self._client.post_message(self._job_id, text, message_type, file_id, idempotency_key)
            case HashReport(file_id, algorithm, hex_digest):
                name = self._policy.hash_name(algorithm)
                if name is not None:
                    await self._client.set_hash(file_id, name, hex_digest, idempotency_key)
