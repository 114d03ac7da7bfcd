"""A job that a notebook runs: what it tells the platform, and that it ends."""

import asyncio
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from worker.jobs.ending import broken_off
from worker.jobs.errors import CONCERNS_ALL, FileNotHashedError
from worker.jobs.plan import FileReference
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import JobAddress, LibsafeError, PermanentLibsafeError
from worker.libsafe.models import TERMINAL, JobStatus
from worker.libsafe.outbox import FileDone
from worker.libsafe.reports import MessageReport, Report, ReportPolicy, StatusReport
from worker.libsafe.sender import deliver, has_ended
from worker.notebook.background import background
from worker.notebook.errors import NotebookError
from worker.notebook.tally import Tally
from worker.storage.errors import StorageError

# Jupyter kills a kernel five seconds after it has asked it to end.
_LAST_WORD_SECONDS = 4.0
_OFFLINE = "offline"
_FORGOTTEN = "its notebook or program ended without job_end."

ReadingError = FileNotHashedError | StorageError | LibsafeError
"""What keeps a file from being read."""

_unended: dict[tuple[str, str], "NotebookJob"] = {}


class NotebookJob:
    """One job. Each report is sent at once, again and again as the settings say, and told once.

    There is no broker behind a notebook, so no outbox: what the platform does not take is raised.

    Args:
        client: To the job's platform.
        address: Of the job.
        policy: Tells how reports are said in the platform's words by now.
        offline_is_error: Whether an off-line file makes the job FAILED.

    Attributes:
        id: The job's.
        status: What the platform was told; None before the job is begun.
        tally: What it has not done; with anything of that it ends FAILED.
    """

    def __init__(
        self,
        client: PlatformClient,
        address: JobAddress,
        policy: Callable[[], ReportPolicy],
        *,
        offline_is_error: bool,
    ) -> None:
        self.id = address.job_id
        self.status: JobStatus | None = None
        self.tally = Tally()
        self._client = client
        self._policy = policy
        self._offline_is_error = offline_is_error
        self._place = address.api_url, address.job_id
        # A notebook may run the same job again, and its reports are others then.
        self._run = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._told_unread: set[str] = set()

    def __repr__(self) -> str:
        return f"<NotebookJob {self.id} {self.status or 'not begun'}>"

    async def begin(self) -> None:
        """Set the job RUNNING; twice is fine."""
        self._check_not_ended()
        if self.status is None:
            # Before it is told: an interrupt may come between.
            _unended[self._place] = self
            try:
                await self._send(StatusReport(JobStatus.RUNNING))
            except LibsafeError:
                del _unended[self._place]
                raise
            self.status = JobStatus.RUNNING

    async def put(self, *reports: Report, done: FileDone | None = None) -> None:
        """Send reports that belong together, in order; one that is refused does not stop those behind it.

        Args:
            reports: Of the job; its end is told by `end` alone.
            done: What a file came to, if they are about one, which the tally expects. It does so still when
                anything but a refusal is raised.

        Raises:
            PermanentLibsafeError: The first refusal; the others were sent.
            TransientLibsafeError: The platform is away.
            NotebookError: The job has ended.
        """
        self._check_not_ended()
        refusal: PermanentLibsafeError | None = None
        for report in reports:
            try:
                await self._send(report)
            except CONCERNS_ALL:
                raise
            except PermanentLibsafeError as error:
                self.tally.note_refused()
                refusal = refusal or error
        if done is not None:
            self.tally.finish(done.file)
            if done.kind == "not_hashed":
                self.tally.note_unread(done.file)
        if refusal is not None:
            raise refusal

    async def note_unread(self, file: FileReference, error: ReadingError) -> None:
        """Tell that a file can't be read, once for each, while the job runs.

        Before and after it nobody is told: whoever only looks around sees for himself. That the platform
        takes the message is not insisted on.
        """
        if not self.is_running or file.key in self._told_unread:
            return
        self._told_unread.add(file.key)
        is_error = error.code != _OFFLINE or self._offline_is_error
        if is_error:
            self.tally.note_unread(file.key)
        level = "ERROR" if is_error else "WARNING"
        # Where it has no record the platform may not know the file, and would refuse a message about it.
        file_id = None if file.record is None else file.record.id
        with suppress(LibsafeError):
            await self._send(MessageReport(unread_message(file.name, error), level, file_id))

    async def end(self, *, is_successful: bool) -> JobStatus:
        """Tell the platform that the job has ended; where something is missing it is FAILED in any case.

        Returns:
            What was told.

        Raises:
            NotebookError: It has ended already.
        """
        self._check_not_ended()
        if is_successful and self.tally.missing:
            with suppress(PermanentLibsafeError):
                await self.put(MessageReport(f"The job ends FAILED: {self.tally.missing}.", level="ERROR"))
        status = JobStatus.COMPLETED if is_successful and not self.tally.missing else JobStatus.FAILED
        await self._send_end(status)
        return status

    async def break_off(self, reason: str) -> None:
        """End the job FAILED with a message, unless somebody has ended it."""
        if not await has_ended(self._client, self.id):
            with suppress(PermanentLibsafeError):
                await self.put(broken_off(reason))
            await self._send_end(JobStatus.FAILED)

    @property
    def is_running(self) -> bool:
        """Whether it was begun here and not ended."""
        return self.status is JobStatus.RUNNING

    @property
    def has_ended(self) -> bool:
        """Whether its end was told from here."""
        return self.status in TERMINAL

    async def _send_end(self, status: JobStatus) -> None:
        await self._send(StatusReport(status))
        self.status = status
        _unended.pop(self._place, None)

    def _check_not_ended(self) -> None:
        if self.has_ended:
            raise NotebookError(f"Job {self.id} has ended already, {self.status}: begin another one.")

    async def _send(self, report: Report) -> None:
        key = f"{self.id}:{self._run}:{next(self._numbers)}"
        await deliver(self._client, self.id, report, self._policy(), key)


def unread_message(name: str, error: ReadingError) -> str:
    """Say which file can't be read and why."""
    return f"{name} can't be read: {error}"


def _end_the_unended() -> None:
    """End the jobs that nobody has ended when the program does."""
    if _unended:
        background().wait(_break_off(list(_unended.values())))


async def _break_off(jobs: Sequence[NotebookJob]) -> None:
    told = await asyncio.gather(*map(_break_off_in_time, jobs), return_exceptions=True)
    for job, error in zip(jobs, told, strict=True):
        if isinstance(error, BaseException):
            # Nobody else is left to be told.
            reason = str(error) or type(error).__name__
            sys.stderr.write(f"Job {job.id} could not be ended and may still be RUNNING: {reason}\n")


async def _break_off_in_time(job: NotebookJob) -> None:
    async with asyncio.timeout(_LAST_WORD_SECONDS):
        await job.break_off(_FORGOTTEN)


background().before_the_end(_end_the_unended)
os.register_at_fork(after_in_child=_unended.clear)  # they are the parent's
