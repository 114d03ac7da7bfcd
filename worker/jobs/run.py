"""The way of one job: RUNNING, its files, COMPLETED or FAILED."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
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
    PlatformUnreachableError,
    RejectedError,
)
from worker.libsafe.models import TERMINAL, JobStatus
from worker.libsafe.payload import Payload
from worker.libsafe.reports import HashReport, MessageReport, StatusReport
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.storage.errors import StorageError

# What concerns one file stays with it, also where the platform refuses or fails to tell about it. These
# two concern all files alike: nobody can be reached, or the key opens nothing.
_CONCERN_THE_JOB = (NotAuthorizedError, PlatformUnreachableError)

_log = structlog.get_logger(__name__)


class JobEnd(StrEnum):
    """How one run of a job ended."""

    COMPLETED = "COMPLETED"
    """Every file has its digests, and the platform has them."""
    FAILED = "FAILED"
    """A file has none, or the platform refused a report; the messages say which and why."""
    LEFT = "LEFT"
    """The platform has ended the job already, or does not have it."""


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
        new_sender: Makes a sender of the job's reports.
        payload: What to do.
        tools: What all jobs share.
    """

    def __init__(
        self,
        client: PlatformClient,
        new_sender: Callable[[], ReportSender],
        payload: Payload,
        tools: JobTools,
    ) -> None:
        self._client = client
        self._new_sender = new_sender
        self._payload = payload
        self._job_id = payload.function_data.job.id
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
        if not await self._may_run():
            return JobEnd.LEFT
        try:
            async with self._new_sender() as sender:
                await self._hash_files(sender)
                return await self._end(sender)
        except PlatformUnreachableError:
            raise
        except asyncio.CancelledError:
            await _even_when_cancelled(self._break_off("the worker was stopped."))
            raise
        except (HashingError, LibsafeError) as error:
            return await self._break_off(str(error))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the job RUNNING
            _log.exception("A job met an error of the hash worker itself")
            return await self._break_off(_own_error(error))

    async def _may_run(self) -> bool:
        """Set the job RUNNING; a platform that refuses it for a job that has not ended does not stop us."""
        try:
            token = secrets.token_hex(8)
            await self._client.set_job_status(self._job_id, JobStatus.RUNNING, f"{self._job_id}:{token}")
        except NotFoundError:
            _log.warning("The platform does not have the job")
            return False
        except RejectedError as refusal:
            if await self._has_ended():
                _log.warning("The job has ended already", reason=str(refusal))
                return False
        return True

    async def _has_ended(self) -> bool:
        return (await self._client.job(self._job_id)).status in TERMINAL

    async def _hash_files(self, sender: ReportSender) -> None:
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
                    task = group.create_task(self._hash_file(files, reference, algorithms, sender))
                    task.add_done_callback(lambda _: permits.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _hash_file(
        self,
        files: FileRun,
        reference: FileReference,
        algorithms: tuple[Algorithm, ...],
        sender: ReportSender,
    ) -> None:
        """Hash one file and report it; what goes wrong with it stays with it."""
        # Until its record is there the platform may not know the file, and would refuse a message about it.
        file_id, name = None, reference.name
        try:
            record = await reference.record()
            file_id, name = record.id, f"File {record.id} ({record.fullpath})"
            if reference.may_repeat and not self._is_new(record.id):
                return
            hashed = await files.hash_file(record)
        except _CONCERN_THE_JOB:
            raise
        except (FileNotHashedError, StorageError, HashingError, LibsafeError) as error:
            code, reason = error.code, str(error)
        except Exception as error:  # noqa: BLE001 - a bug that one file meets must not stop the others
            _log.exception("A file met an error of the hash worker itself", file=name)
            code, reason = "internal_error", _own_error(error)
        else:
            self._hashed_files += 1
            self._hashed_bytes += hashed.size_bytes
            await sender.put(*hashed.reports(algorithms))
            return
        self._not_hashed[code] += 1
        text = messages.not_hashed_message(name, reason)
        await sender.put(MessageReport(text, level="ERROR", file_id=file_id))

    def _is_new(self, file_id: str) -> bool:
        is_new = file_id not in self._seen_ids
        self._seen_ids.add(file_id)
        return is_new

    async def _end(self, sender: ReportSender) -> JobEnd:
        """Tell the end, once everything before it has arrived."""
        await sender.flush()
        for report, refusal in sender.rejected:
            if isinstance(report, HashReport):
                text = messages.hash_refused_message(report.file_id, report.algorithm, str(refusal))
                await sender.put(MessageReport(text, level="ERROR", file_id=report.file_id))
        is_complete = not self._not_hashed and not sender.rejected_count
        return await self._tell_end(sender, JobStatus.COMPLETED if is_complete else JobStatus.FAILED)

    async def _break_off(self, reason: str) -> JobEnd:
        """End the job FAILED before its time; by a sender of its own, since the other may be what failed."""
        async with self._new_sender() as sender:
            await sender.put(MessageReport(messages.broken_off_message(reason), level="ERROR"))
            return await self._tell_end(sender, JobStatus.FAILED)

    async def _tell_end(self, sender: ReportSender, status: JobStatus) -> JobEnd:
        summary = messages.summary_message(
            hashed_files=self._hashed_files,
            hashed_bytes=self._hashed_bytes,
            seconds=time.monotonic() - self._started_seconds,
            not_hashed=self._not_hashed,
            refused_reports=sender.rejected_count,
        )
        # In one go, so that no message of the job can come after its end.
        await sender.put(MessageReport(summary), StatusReport(status))
        await sender.flush()
        if sender.refused_status is None:
            return JobEnd(status.value)
        if await self._has_ended():
            return JobEnd.LEFT
        raise sender.refused_status


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
        except Exception as error:  # noqa: BLE001 - the cancellation goes on, whatever the last words met
            reason = str(error) if isinstance(error, LibsafeError) else type(error).__name__
            _log.warning("The platform could not be told that the job was broken off", reason=reason)
