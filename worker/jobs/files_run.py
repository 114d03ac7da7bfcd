"""The files of one task, a whole job's or a batch's: hashed side by side, each one's reports put at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog

from worker import metrics
from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import HashingError
from worker.jobs import messages
from worker.jobs.errors import CONCERNS_ALL, FileNotHashedError, is_away, own_error
from worker.jobs.file_run import FileRun, HashedFile
from worker.jobs.plan import FileReference
from worker.jobs.tools import JobTools
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import LibsafeError, TransientLibsafeError
from worker.libsafe.models import FileRecord
from worker.libsafe.outbox import FileDone
from worker.libsafe.reports import MessageReport, Report
from worker.storage.errors import StorageError

_OFFLINE = "offline"

_log = structlog.get_logger(__name__)


class Reports(Protocol):
    """Takes what is told of files, as `ReportSender` does."""

    async def put(self, *reports: Report, done: FileDone | None = None) -> None:
        """Take reports that belong together, and what the file came to that they are about."""
        ...


class FilesRun:
    """One task's run over its files.

    Args:
        client: To the job's platform.
        sender: Takes the reports.
        algorithms: What to calculate.
        tools: What all jobs share.
        on_bytes: Is told how many bytes more are read of files under way; less than none, when one is done.
    """

    def __init__(
        self,
        *,
        client: PlatformClient,
        sender: Reports,
        algorithms: tuple[Algorithm, ...],
        tools: JobTools,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._sender = sender
        self._algorithms = algorithms
        self._tools = tools
        self._on_bytes = on_bytes
        self._away: TransientLibsafeError | None = None
        self._files = FileRun(
            client=client,
            stores=tools.stores,
            lanes=tools.lanes,
            routes=tools.routes,
            algorithms=algorithms,
            ranges_in_flight=tools.ranges_in_flight,
            offline_storage_class_ids=tools.offline_storage_class_ids,
        )

    async def hash(self, references: AsyncIterator[FileReference]) -> None:
        """Hash files and put their reports; what goes wrong with a file stays with it.

        When the platform is away no file is begun, and those begun go on.

        Raises:
            TransientLibsafeError: The platform is away.
            NotAuthorizedError: It refuses the key.
            JobTakenOverError: Another run has the lease.
        """
        permits = asyncio.Semaphore(self._tools.files_at_once)
        try:
            async with asyncio.TaskGroup() as group:
                async for reference in self._while_it_is_there(references):
                    await permits.acquire()
                    task = group.create_task(self._take(reference))
                    task.add_done_callback(lambda _: permits.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        if self._away is not None:
            raise self._away

    async def _while_it_is_there(
        self, references: AsyncIterator[FileReference]
    ) -> AsyncIterator[FileReference]:
        try:
            async for reference in references:
                if self._away is not None:
                    return
                yield reference
        except TransientLibsafeError as error:
            self._away = error

    async def _take(self, reference: FileReference) -> None:
        read_bytes = 0

        def count(size_bytes: int) -> None:
            nonlocal read_bytes
            read_bytes += size_bytes
            metrics.READ_BYTES.inc(size_bytes)
            self._on_bytes(size_bytes)

        try:
            hashed = await self._files.hash_file(_record_of(reference), count)
        except CONCERNS_ALL:
            raise
        except (FileNotHashedError, StorageError, HashingError, LibsafeError) as error:
            if isinstance(error, TransientLibsafeError) and is_away(error):
                self._away = error
            else:
                await self._put_failure(reference, error.code, str(error))
        except Exception as error:  # noqa: BLE001 - a bug that one file meets must not stop the others
            _log.exception("A file met an error of the hash worker itself", file=reference.name)
            await self._put_failure(reference, "internal_error", own_error(error))
        else:
            await self._put_digests(reference, hashed)
        finally:
            self._on_bytes(-read_bytes)

    async def _put_digests(self, reference: FileReference, hashed: HashedFile) -> None:
        done = FileDone(reference.key, "hashed", hashed.size_bytes)
        await self._sender.put(*hashed.reports(self._algorithms), done=done)
        _count(done)

    async def _put_failure(self, reference: FileReference, code: str, reason: str) -> None:
        is_error = code != _OFFLINE or self._tools.offline_is_error
        # Where it has no record the platform may not know the file, and would refuse a message about it.
        file_id = None if reference.record is None else reference.record.id
        text = messages.not_hashed_message(reference.name, reason)
        done = FileDone(
            reference.key, "not_hashed" if is_error else "passed_over", reference.size_bytes, code
        )
        await self._sender.put(
            MessageReport(text, level="ERROR" if is_error else "WARNING", file_id=file_id), done=done
        )
        _count(done)


def _count(done: FileDone) -> None:
    metrics.FILES.labels(done.kind).inc()
    metrics.FILE_BYTES.labels(done.kind).inc(done.size_bytes)


def _record_of(reference: FileReference) -> FileRecord:
    if reference.error is not None:
        raise reference.error
    assert reference.record is not None, "a reference has a record or an error"
    return reference.record
