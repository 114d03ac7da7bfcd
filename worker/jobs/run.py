"""The way of one job: RUNNING, its files, COMPLETED or FAILED; or, if it has many, into batches."""

from collections.abc import AsyncIterator, Collection, Sequence
from enum import StrEnum

import structlog

from worker import metrics
from worker.jobs.batches import Sending
from worker.jobs.context import RunContext
from worker.jobs.ending import end_of
from worker.jobs.files_run import FilesRun
from worker.jobs.plan import FileReference, Plan
from worker.jobs.stopping import ENDS_JOB, StoppedError, StopReason
from worker.jobs.supervision import finish, supervise
from worker.jobs.tools import algorithms_of
from worker.libsafe.errors import RejectedError
from worker.libsafe.models import JobStatus
from worker.libsafe.sender import has_ended

# To look for few files in a long list takes long, as many files do.
_FEW_LISTED = 3000

_log = structlog.get_logger(__name__)


class JobEnd(StrEnum):
    """How one run of a job ended."""

    COMPLETED = "COMPLETED"
    """Every file has its digests, and the platform has them."""
    FAILED = "FAILED"
    """A file has none, or the platform refused a report; the messages say which and why."""
    LEFT = "LEFT"
    """The platform has ended the job already."""
    SPREAD = "SPREAD"
    """It goes on in batches; who settles the last one ends it."""


class JobRun:
    """One run of one payload.

    Args:
        context: What it works with.
        sending: What batches are sent with, if the job comes to have some.
    """

    def __init__(self, context: RunContext, sending: Sending) -> None:
        self._client = context.client
        self._sender = context.sender
        self._outbox = context.books.outbox
        self._ledger = context.books.ledger
        self._batches = context.books.batches
        self._payload = context.payload
        self._sending = sending
        self._job_id = context.payload.function_data.job.id
        self._tools = context.tools
        self._stop = context.stop
        self._watch = context.watch()
        self._progress = context.progress()
        self._is_spread = False

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
                broken = await supervise(self._work, self._watch, self._stop)
            except StoppedError as stopped:
                if stopped.reason is not StopReason.LEFT:
                    raise
                return await self._leave()
            if self._is_spread:
                return JobEnd.SPREAD
            await self._put_end(broken)
            told = await finish(self._sender, self._stop)
        await self._outbox.clear()
        return JobEnd.LEFT if told is None else JobEnd(told.value)

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

    async def _work(self) -> None:
        """Hash the files, or spread the job if they are more than one task should take."""
        algorithms = algorithms_of(self._payload, self._tools)
        plan = Plan(self._client, self._payload)
        with metrics.STAGE_SECONDS.labels("plan").time():
            references = await self._few(plan)
        if references is None:
            await self._batches.spread(self._outbox.fence, self._sending, self._outbox.head)
            self._is_spread = True
            return
        size_bytes = sum(reference.size_bytes for reference in references)
        await self._ledger.set_totals(
            files=len(references), size_bytes=size_bytes, passed_over=plan.passed_over
        )
        async with self._progress:
            run = FilesRun(
                client=self._client,
                sender=self._sender,
                algorithms=algorithms,
                tools=self._tools,
                on_bytes=self._note_bytes,
            )
            await run.hash(_without(references, await self._outbox.files()))

    async def _few(self, plan: Plan) -> Sequence[FileReference] | None:
        """Give the job's files, or None as soon as they are too many for one task."""
        found: list[FileReference] = []
        size_bytes = listed = 0
        # A job that was begun whole goes on so, however many files it has by now: spread, it would tell those
        # again that are done.
        is_begun = (await self._batches.planning()).is_planned
        for pages in (plan.named(), plan.listed()):
            async for page in pages:
                self._watch.note_progress()
                found += page.references
                size_bytes += sum(reference.size_bytes for reference in page.references)
                listed += page.listed
                is_much = len(found) > self._tools.batch_files or size_bytes > self._tools.batch_bytes
                if (is_much or listed > _FEW_LISTED) and not is_begun:
                    return None
        return found

    def _note_bytes(self, size_bytes: int) -> None:
        self._watch.note_progress()
        self._progress.add(size_bytes)

    async def _put_end(self, broken: str | None) -> None:
        await self._sender.put(*end_of(await self._ledger.snapshot(), broken))


async def _without(
    references: Sequence[FileReference], done: Collection[str]
) -> AsyncIterator[FileReference]:
    for reference in references:
        if reference.key not in done:
            yield reference
