"""The way of one job: RUNNING, its files, COMPLETED or FAILED."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from worker.hashing.algorithms import Algorithm, resolve
from worker.hashing.errors import HashingError
from worker.hashing.lanes import LanePool
from worker.jobs import messages
from worker.jobs.errors import FileNotHashedError
from worker.jobs.file_run import FileRun, Stores
from worker.jobs.plan import FileReference, plan
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import (
    LibsafeError,
    NotAuthorizedError,
    NotFoundError,
    PlatformBusyError,
    PlatformUnreachableError,
    RejectedError,
)
from worker.libsafe.models import JobStatus
from worker.libsafe.payload import Payload
from worker.libsafe.reports import HashReport, MessageReport, StatusReport
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.storage.errors import StorageError

# Without the platform nothing that a file gives can be told, so these end the run.
_PLATFORM_GONE = (NotAuthorizedError, PlatformUnreachableError, PlatformBusyError)

_log = structlog.get_logger(__name__)


class JobEnd(StrEnum):
    """How one run of a job ended."""

    COMPLETED = "COMPLETED"
    """Every file has its digests, and the platform has them."""
    FAILED = "FAILED"
    """At least one file has none, or a hash was refused; the messages say which and why."""
    LEFT = "LEFT"
    """The platform did not let the job run: it has ended already, or is gone."""


@dataclass(frozen=True, slots=True)
class JobTools:
    """What every job of a worker shares."""

    stores: Stores
    lanes: LanePool
    routes: Routes
    default_algorithms: tuple[str, ...]
    files_at_once: int
    ranges_in_flight: int
    offline_storage_class_ids: frozenset[str]


class JobRun:
    """One run of one job, with what it has counted so far.

    Args:
        client: To the job's platform.
        sender: The job's reports go through it.
        payload: What to do.
        tools: What all jobs share.
        token: Tells this run from every other one of the same job; the sender has the same.
    """

    def __init__(
        self, client: PlatformClient, sender: ReportSender, payload: Payload, tools: JobTools, *, token: str
    ) -> None:
        self._client = client
        self._sender = sender
        self._token = token
        self._payload = payload
        self._tools = tools
        self._started_seconds = time.monotonic()
        self._seen_ids: set[str] = set()
        self._hashed_files = 0
        self._hashed_bytes = 0
        self._not_hashed: Counter[str] = Counter()

    async def run(self) -> JobEnd:
        """Run the job to its end on the platform.

        Returns:
            How it ended. A job that the platform has ended already is left as it is.

        Raises:
            LibsafeError: The platform can't be told, for now or for good; there the job is still RUNNING.
        """
        job_id = self._payload.function_data.job.id
        try:
            await self._client.set_job_status(job_id, JobStatus.RUNNING, f"{job_id}:{self._token}:begin")
        except (NotFoundError, RejectedError) as refusal:
            _log.warning("The platform does not let the job run", reason=str(refusal))
            return JobEnd.LEFT
        try:
            await self._hash_files()
        except asyncio.CancelledError:
            await _even_when_cancelled(self._break_off("the worker was stopped."))
            raise
        except _PLATFORM_GONE:
            raise
        except (HashingError, LibsafeError) as error:
            return await self._break_off(str(error))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the job RUNNING
            _log.exception("A job met an error of the hash worker itself")
            return await self._break_off(_own_error(error))
        return await self._end(JobStatus.FAILED if self._not_hashed else JobStatus.COMPLETED)

    async def _hash_files(self) -> None:
        tools = self._tools
        algorithms = resolve(self._payload.algorithms or tools.default_algorithms)
        files = FileRun(
            client=self._client,
            stores=tools.stores,
            lanes=tools.lanes,
            routes=tools.routes,
            algorithms=algorithms,
            ranges_in_flight=tools.ranges_in_flight,
            offline_storage_class_ids=tools.offline_storage_class_ids,
        )
        permits = asyncio.Semaphore(tools.files_at_once)
        try:
            async with asyncio.TaskGroup() as group:
                async for reference in plan(self._client, self._payload):
                    await permits.acquire()
                    task = group.create_task(self._hash_file(files, reference, algorithms))
                    task.add_done_callback(lambda _: permits.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _hash_file(
        self, files: FileRun, reference: FileReference, algorithms: tuple[Algorithm, ...]
    ) -> None:
        """Hash one file and report it; what goes wrong with it stays with it."""
        # Until its record is there the platform may not know the file, and would refuse a message about it.
        file_id, name = None, reference.name
        try:
            record = await reference.record()
            file_id, name = record.id, f"File {record.id} ({record.fullpath})"
            if record.id in self._seen_ids:
                return
            self._seen_ids.add(record.id)
            hashed = await files.hash_file(record)
        except _PLATFORM_GONE:
            raise
        except (FileNotHashedError, StorageError, HashingError, LibsafeError) as error:
            code, reason = error.code, str(error)
        except Exception as error:  # noqa: BLE001 - a bug that one file meets must not stop the others
            _log.exception("A file met an error of the hash worker itself", file=name)
            code, reason = "internal_error", _own_error(error)
        else:
            self._hashed_files += 1
            self._hashed_bytes += hashed.size_bytes
            await self._sender.put(*hashed.reports(algorithms))
            return
        self._not_hashed[code] += 1
        text = messages.not_hashed_message(name, reason)
        await self._sender.put(MessageReport(text, level="ERROR", file_id=file_id))

    async def _break_off(self, reason: str) -> JobEnd:
        await self._sender.put(MessageReport(messages.broken_off_message(reason), level="ERROR"))
        return await self._end(JobStatus.FAILED)

    async def _end(self, status: JobStatus) -> JobEnd:
        await self._sender.flush()
        for report, refusal in self._sender.rejected:
            _log.warning("The platform refused a report", report=type(report).__name__, reason=str(refusal))
            if isinstance(report, HashReport):
                status = JobStatus.FAILED
                text = messages.hash_refused_message(report.file_id, report.algorithm, str(refusal))
                await self._sender.put(MessageReport(text, level="ERROR", file_id=report.file_id))
        summary = messages.summary_message(
            hashed_files=self._hashed_files,
            hashed_bytes=self._hashed_bytes,
            seconds=time.monotonic() - self._started_seconds,
            not_hashed=self._not_hashed,
        )
        # In one go, so that no message of the job can come after its end.
        await self._sender.put(MessageReport(summary), StatusReport(status))
        await self._sender.flush()
        return JobEnd(status.value)


def _own_error(error: Exception) -> str:
    """Name an error of ours without its text, which may hold anything."""
    return f"the hash worker itself met an error ({type(error).__name__}); its log has the details."


async def _even_when_cancelled(last_words: Awaitable[object]) -> None:
    """Wait for `last_words` although this task is cancelled, also when it is cancelled once more."""
    task = asyncio.ensure_future(last_words)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
        except LibsafeError as error:
            _log.warning("The platform could not be told that the job was broken off", reason=str(error))
