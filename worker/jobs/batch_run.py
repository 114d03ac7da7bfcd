"""The way of one batch: its files, their reports, and then it is settled."""

from collections.abc import AsyncIterator, Collection

from worker.jobs.context import RunContext
from worker.jobs.ending import broken_off
from worker.jobs.files_run import FilesRun
from worker.jobs.plan import FileReference, Part, Plan
from worker.jobs.stopping import ENDS_JOB, StoppedError, StopReason
from worker.jobs.supervision import finish, supervise
from worker.jobs.tools import algorithms_of
from worker.libsafe.reports import EndOfBatch


class BatchRun:
    """One run of one batch.

    Args:
        context: What it works with.
    """

    def __init__(self, context: RunContext) -> None:
        self._client = context.client
        self._sender = context.sender
        self._outbox = context.books.outbox
        self._ledger = context.books.ledger
        self._batches = context.books.batches
        self._batch = context.books.batch
        self._payload = context.payload
        self._tools = context.tools
        self._stop = context.stop
        self._watch = context.watch()
        self._progress = context.progress()

    async def run(self, part: Part) -> None:
        """Hash the batch's files and settle it; files that an earlier run has done are not read again.

        A job that was cancelled, by whomever, has its batches settled with what they have done.

        Raises:
            StoppedError: It was stopped for a reason that does not end the job.
            JobTakenOverError: Another run has the batch.
            TransientLibsafeError: The platform is away. If the batch is done its end is safe in the outbox;
                otherwise it is to be run again.
            LibsafeError: The platform can't be told.
        """
        async with self._sender:
            try:
                broken = await supervise(lambda: self._work(part), self._watch, self._stop)
            except StoppedError as stopped:
                if stopped.reason is not StopReason.LEFT:
                    raise
                await self._leave()
                return
            if broken is not None and self._stop.reason in ENDS_JOB:
                # An operator stopped one task of the job, and means the job.
                await self._ledger.cancel(broken)
                broken = None
            told = [] if broken is None else [broken_off(broken)]
            await self._sender.put(*told, EndOfBatch(self._batch, is_broken=broken is not None))
            await finish(self._sender, self._stop)
        await self._batches.settle(self._outbox.fence, self._batch, is_broken=broken is not None)

    async def _work(self, part: Part) -> None:
        if await self._ledger.cancelled():
            return
        async with self._progress:
            run = FilesRun(
                client=self._client,
                sender=self._sender,
                algorithms=algorithms_of(self._payload, self._tools),
                tools=self._tools,
                on_bytes=self._note_bytes,
            )
            await run.hash(self._to_be_done(part, await self._outbox.files()))

    async def _to_be_done(self, part: Part, done: Collection[str]) -> AsyncIterator[FileReference]:
        async for reference in Plan(self._client, self._payload).part(part):
            self._watch.note_progress()
            if reference.key not in done:
                yield reference

    def _note_bytes(self, size_bytes: int) -> None:
        self._watch.note_progress()
        self._progress.add(size_bytes)

    async def _leave(self) -> None:
        """Settle a batch of a job that the platform has ended: it is told nothing more."""
        await self._ledger.leave()
        await self._outbox.forget()
        await self._batches.settle(self._outbox.fence, self._batch, is_broken=False)
