"""The request that a payload makes: its job, its files and what they are read from."""

import asyncio
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from worker.jobs import messages
from worker.jobs.errors import FileNotHashedError
from worker.jobs.plan import FileReference, Page, Plan, check_hashable
from worker.libsafe.errors import LibsafeError
from worker.libsafe.models import FileRecord, JobStatus
from worker.libsafe.payload import Payload
from worker.libsafe.reports import MessageReport
from worker.notebook.api import Id, JobMessageType
from worker.notebook.driver import Driver
from worker.notebook.errors import OUR_ERRORS, NotebookError
from worker.notebook.filesystem import Storage
from worker.notebook.job import unread_message

T = TypeVar("T")

# A platform that is there takes an end within milliseconds; one that is away is called for a minute.
_PATIENCE_SECONDS = 3.0
_INTERRUPTS = (KeyboardInterrupt, asyncio.CancelledError)


class Request:
    """A payload, read and checked, with the verbs of its job.

        with Request(None, payload) as request:
            for file in request.Files: ...

    The block begins the job and ends it: COMPLETED, or FAILED with a message if anything was raised. Without
    a block `job_init` and `job_end` do so; a job that was begun and not ended is FAILED when the program
    ends. `File.get_metadata` and its like belong to the request of the innermost block, without one to the
    request that was made or begun last.

    Args:
        context: What Nuclio gives a function; it is kept for the function and not looked at.
        event: Nuclio's event, whose `body` is the payload; or the payload itself, as text or decoded.

    Attributes:
        payload: Its keys are hidden.
        driver: The way to its platform.

    Raises:
        PayloadError: It can't be used; the text tells all that is wrong.
        HostNotAllowedError: The settings do not name its platform's host; no key is sent there.
        SettingsError: The settings can't be used.
    """

    def __init__(self, context: object, event: object) -> None:
        self.context = context
        self.payload = Payload.parse(_document(event))
        self.driver = Driver(self.payload.address)
        self.driver.make_last()
        self._job = self.driver.job
        self._storage = Storage(self.driver)

    def __repr__(self) -> str:
        return f"<Request {self._job!r}, {self.payload!r}>"

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The payload's `function_params`."""
        return self.payload.function_params

    @property
    def Files(self) -> "Files":  # noqa: N802 - as the platform's library has it
        """The files that the job is about."""
        return Files(self.driver, self.payload)

    @property
    def Storage(self) -> Storage:  # noqa: N802 - as the platform's library has it
        """Where they are."""
        return self._storage

    def job_init(self) -> None:
        """Set the job RUNNING; twice is fine.

        Raises:
            NotebookError: It was ended by `job_end`.
            LibsafeError: The platform does not take it, such as that of a job that has ended.
        """
        self.driver.ask(self._job.begin())
        self.driver.make_last()

    def log(
        self, message: object, message_type: str = JobMessageType.INFO, file_id: Id | None = None
    ) -> None:
        """Add a message to the job.

        Args:
            message: Its text, or what `str` makes one of.
            message_type: One of `JobMessage.JobMessageType`, or another key of `api.message_types`.
            file_id: The file that it is about, if any.
        """
        about = None if file_id is None else str(file_id)
        self.driver.ask(self._job.put(MessageReport(str(message), str(message_type), about)))

    def job_end(self, is_successful: bool) -> JobStatus:  # noqa: FBT001 - as the platform's library has it
        """End the job: COMPLETED or FAILED.

        A job with a file that could not be read, or a report that the platform refused, is FAILED in any
        case; a message says so.

        Returns:
            What the platform was told.

        Raises:
            NotebookError: It has ended already.
        """
        return self._end(is_successful=is_successful)

    def __enter__(self) -> Self:
        self.driver.enter_block()
        try:
            self.job_init()
        except Exception:
            self.driver.leave_block()
            raise
        except BaseException as error:
            # Interrupted when the platform may have it RUNNING already; nobody calls __exit__ for that.
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.leave_block()
        if self._job.has_ended:
            return
        if error is None:
            self._end(is_successful=True)
            return
        try:
            self._tell_end(lambda: self._job.break_off(_reason(error)))
        except LibsafeError as untold:
            error.add_note(f"Job {self.job_id} could not be ended: {untold}")

    def _end(self, *, is_successful: bool) -> JobStatus:
        status = self._tell_end(lambda: self._job.end(is_successful=is_successful))
        if is_successful and status is JobStatus.FAILED:
            # It is about the line of the caller's caller.
            warnings.warn(f"Job {self.job_id} ended FAILED: {self._job.tally.missing}.", stacklevel=3)
        return status

    def _tell_end(self, tell: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait until the platform has taken the job's end; say so if that takes long."""

        async def tell_patiently() -> T:
            tries = self.driver.connections.settings.api.attempts
            word = (
                f"Job {self.job_id} waits for the platform to take its end; each call is tried up to {tries} "
                "times (api.attempts). Ctrl-C gives up and may leave the job RUNNING.\n"
            )
            saying = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, sys.stderr.write, word)
            try:
                return await tell()
            finally:
                saying.cancel()

        return self.driver.ask(tell_patiently())


class Files:
    """The files that a payload means, by the rules of the service; looked up while they are gone through.

    What can't be found, or is off-line, is left out and told: to the job's users while the job runs, else by
    a warning. Going through them again asks the platform again.

    Args:
        driver: To the platform.
        payload: What to go through.
    """

    def __init__(self, driver: Driver, payload: Payload) -> None:
        self._driver = driver
        self._payload = payload
        self._offline_ids = frozenset(driver.connections.settings.worker.offline_storage_class_ids)

    def __repr__(self) -> str:
        return f"<Files of {self._payload!r}>"

    def __iter__(self) -> Iterator[FileRecord]:
        job = self._driver.job
        plan = Plan(self._driver.client, self._payload)
        for pages in (plan.named(), plan.listed()):
            while (page := self._driver.ask(_next(pages))) is not None:
                for reference in page.references:
                    error = self._fault_in(reference)
                    if error is None and reference.record is not None:
                        yield reference.record
                    elif error is not None and job.is_running:
                        self._driver.ask(job.note_unread(reference, error))
                    elif error is not None:
                        warnings.warn(unread_message(reference.name, error), stacklevel=2)
        if plan.passed_over and job.is_running:
            told = MessageReport(messages.passed_over_message(plan.passed_over))
            self._driver.ask(job.put(told))

    def _fault_in(self, reference: FileReference) -> FileNotHashedError | LibsafeError | None:
        if reference.record is None:
            return reference.error
        try:
            check_hashable(reference.record, self._offline_ids)
        except FileNotHashedError as error:
            return error
        return None


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)


def _document(event: object) -> str | bytes | Mapping[str, Any]:
    body = getattr(event, "body", event)
    if not isinstance(body, str | bytes | Mapping):
        raise NotebookError("The event has no payload: its body has to be JSON, as text or as a dictionary.")
    return body


def _reason(error: BaseException) -> str:
    """Say why a job is broken off; another's text may hold anything, a key too."""
    if isinstance(error, _INTERRUPTS):
        return "it was interrupted."
    if isinstance(error, OUR_ERRORS):
        return str(error)
    return f"its function raised {type(error).__name__}."
