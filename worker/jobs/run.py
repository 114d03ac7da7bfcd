"""The way of one job: RUNNING, its files, COMPLETED or FAILED."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
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
from worker.jobs.stopping import ENDS_JOB, Stop, StoppedError, StopReason
from worker.jobs.watch import Watch
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import (
    JobTakenOverError,
    LibsafeError,
    NotAuthorizedError,
    PlatformBusyError,
    PlatformUnreachableError,
    RejectedError,
    TransientLibsafeError,
)
from worker.libsafe.models import JobStatus
from worker.libsafe.outbox import Outbox
from worker.libsafe.payload import Payload
from worker.libsafe.reports import MessageReport, StatusReport
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender, has_ended
from worker.storage.errors import StorageError

# What concerns one file stays with it, also where the platform refuses or fails to tell about it. These
# concern all files alike: nobody can be told anything.
_CONCERN_THE_JOB = (NotAuthorizedError, JobTakenOverError)

_log = structlog.get_logger(__name__)


class JobEnd(StrEnum):
    """How one run of a job ended."""

    COMPLETED = "COMPLETED"
    """Every file has its digests, and the platform has them."""
    FAILED = "FAILED"
    """A file has none, or the platform refused a report; the messages say which and why."""
    LEFT = "LEFT"
    """The platform has ended the job already."""


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
    """One run of one job, with what it and the runs before it have counted so far.

    Args:
        client: To the job's platform.
        outbox: The job's.
        sender: Of the outbox, not yet sending.
        payload: What to do.
        tools: What all jobs share.
        stop: Ends the run before its time.
    """

    def __init__(
        self,
        *,
        client: PlatformClient,
        outbox: Outbox,
        sender: ReportSender,
        payload: Payload,
        tools: JobTools,
        stop: Stop,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._sender = sender
        self._payload = payload
        self._job_id = payload.function_data.job.id
        self._tools = tools
        self._stop = stop
        self._started_seconds = time.monotonic()
        self._done_before: dict[str, str] = {}
        self._seen_ids: set[str] = set()
        self._hashed_files = 0
        self._hashed_bytes = 0
        self._not_hashed: Counter[str] = Counter()
        self._away: TransientLibsafeError | None = None
        self._watch = Watch(client, sender, self._job_id, stop)

    async def run(self) -> JobEnd:
        """Run the job to its end on the platform; files that an earlier run has done are not read again.

        Returns:
            How it ended. A job that the platform has ended already is left as it is.

        Raises:
            StoppedError: It was stopped for a reason that does not end the job.
            JobTakenOverError: Another run has the job.
            TransientLibsafeError: The platform is away. Where the end was put, it is safe in the outbox;
                otherwise the job is to be run again.
            LibsafeError: The platform can't be told; there the job is still RUNNING.
        """
        try:
            with self._stop:
                if not await self._may_run():
                    return await self._leave()
        except StoppedError as stopped:
            if stopped.reason not in ENDS_JOB:
                raise
        async with self._sender:
            try:
                await self._put_end()
            except StoppedError as stopped:
                if stopped.reason is not StopReason.LEFT:
                    raise
                return await self._leave()
            told = await self._finish()
        await self._outbox.clear()
        return JobEnd.LEFT if told is None else JobEnd(told.value)

    async def _finish(self) -> JobStatus | None:
        """Deliver what was put. A worker that ends leaves it to others; an operator's stop comes too late."""
        if self._stop.reason is None:
            try:
                with self._stop:
                    return await self._sender.finish()
            except StoppedError as stopped:
                if stopped.reason not in ENDS_JOB:
                    raise
        return await self._sender.finish()

    async def _may_run(self) -> bool:
        """Set the job RUNNING; a platform that refuses it for a job that has not ended does not stop us."""
        fence = self._outbox.fence
        await fence.confirm()
        try:
            key = f"{self._job_id}:{fence.epoch}:{JobStatus.RUNNING}"
            await self._client.set_job_status(self._job_id, JobStatus.RUNNING, key)
        except RejectedError as refusal:
            if await has_ended(self._client, self._job_id):
                _log.warning("The job has ended already", reason=str(refusal))
                return False
        return True

    async def _leave(self) -> JobEnd:
        await self._outbox.discard()
        return JobEnd.LEFT

    async def _put_end(self) -> None:
        """Hash the files and put the end, whatever stands in the way; nothing is raised that has an end."""
        try:
            with self._stop:
                async with self._watch:
                    await self._resume()
                    await self._hash_files()
        except StoppedError as stopped:
            if self._watch.untold is not None:
                raise self._watch.untold from None
            if stopped.reason not in ENDS_JOB:
                raise
            await self._break_off(ENDS_JOB[stopped.reason])
        except (*_CONCERN_THE_JOB, TransientLibsafeError):
            raise
        except (HashingError, LibsafeError) as error:
            await self._break_off(str(error))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the job RUNNING
            _log.exception("A job met an error of the hash worker itself")
            await self._break_off(_own_error(error))
        else:
            status = JobStatus.FAILED if self._not_hashed else JobStatus.COMPLETED
            await self._sender.put(self._summary(), StatusReport(status))

    async def _break_off(self, reason: str) -> None:
        told = MessageReport(messages.broken_off_message(reason), level="ERROR")
        await self._sender.put(told, self._summary(), StatusReport(JobStatus.FAILED))

    def _summary(self) -> MessageReport:
        return MessageReport(
            messages.summary_message(
                hashed_files=self._hashed_files,
                hashed_bytes=self._hashed_bytes,
                seconds=time.monotonic() - self._started_seconds,
                not_hashed=self._not_hashed,
            )
        )

    async def _resume(self) -> None:
        """Count what earlier runs have done."""
        self._done_before = await self._outbox.files()
        for outcome in self._done_before.values():
            self._count(json.loads(outcome))

    def _count(self, outcome: dict[str, str | int]) -> None:
        if "code" in outcome:
            self._not_hashed[str(outcome["code"])] += 1
        else:
            self._hashed_files += 1
            self._hashed_bytes += int(outcome["size_bytes"])

    async def _hash_files(self) -> None:
        """Hash what is to be hashed. When the platform is away no file is begun, and those begun go on."""
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
            on_bytes=lambda _: self._watch.note_progress(),
        )
        permits = asyncio.Semaphore(tools.files_at_once)
        try:
            async with asyncio.TaskGroup() as group:
                async for reference in self._planned():
                    await permits.acquire()
                    task = group.create_task(self._hash_file(files, reference, algorithms))
                    task.add_done_callback(lambda _: permits.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        if self._away is not None:
            raise self._away

    async def _planned(self) -> AsyncIterator[FileReference]:
        try:
            async for reference in plan(self._client, self._payload):
                self._watch.note_progress()
                if self._away is not None:
                    return
                if reference.key not in self._done_before:
                    yield reference
        except TransientLibsafeError as error:
            self._away = error

    async def _hash_file(
        self, files: FileRun, reference: FileReference, algorithms: tuple[Algorithm, ...]
    ) -> None:
        """Hash one file and report it; what goes wrong with it stays with it."""
        # Until its record is there the platform may not know the file, and would refuse a message about it.
        key, file_id, name = reference.key, None, reference.name
        outcome: dict[str, str | int]
        try:
            record = await reference.record()
            key, file_id, name = record.id, record.id, f"File {record.id} ({record.fullpath})"
            if reference.may_repeat and not self._is_new(record.id):
                return
            hashed = await files.hash_file(record)
        except _CONCERN_THE_JOB:
            raise
        except (FileNotHashedError, StorageError, HashingError, LibsafeError) as error:
            if isinstance(error, TransientLibsafeError) and _is_away(error):
                self._away = error
                return
            code, reason = error.code, str(error)
        except Exception as error:  # noqa: BLE001 - a bug that one file meets must not stop the others
            _log.exception("A file met an error of the hash worker itself", file=name)
            code, reason = "internal_error", _own_error(error)
        else:
            outcome = {"size_bytes": hashed.size_bytes}
            await self._sender.put(*hashed.reports(algorithms), file=key, outcome=json.dumps(outcome))
            self._count(outcome)
            self._watch.note_progress()
            return
        outcome = {"code": code}
        told = MessageReport(messages.not_hashed_message(name, reason), level="ERROR", file_id=file_id)
        await self._sender.put(told, file=key, outcome=json.dumps(outcome))
        self._count(outcome)
        self._watch.note_progress()

    def _is_new(self, file_id: str) -> bool:
        """Tell whether neither this run nor one before it has met the file under another name."""
        is_new = file_id not in self._seen_ids and file_id not in self._done_before
        self._seen_ids.add(file_id)
        return is_new


def _is_away(error: TransientLibsafeError) -> bool:
    """Tell a platform that is away, or asks for time, from one that fails over one file."""
    asks_for_time = isinstance(error, PlatformBusyError) and error.retry_after_seconds is not None
    return asks_for_time or isinstance(error, PlatformUnreachableError)


def _own_error(error: Exception) -> str:
    """Name an error of ours without its text, which may hold anything."""
    return f"the hash worker itself met an error ({type(error).__name__}); its log has the details."
