"""The entrance: what a message asks for is done, and the platform is told how it ended."""

from typing import Protocol

from worker.jobs import messages
from worker.jobs.batch_run import BatchRun
from worker.jobs.batches import Sending
from worker.jobs.context import Books, RunContext
from worker.jobs.ending import broken_off, end_of
from worker.jobs.plan import Part
from worker.jobs.planning import PlanRun
from worker.jobs.progress import Show
from worker.jobs.run import JobEnd, JobRun
from worker.jobs.stopping import Stop, StoppedError, StopReason
from worker.jobs.tools import JobTools
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import JobAddress
from worker.libsafe.models import JobStatus
from worker.libsafe.outbox import Outbox
from worker.libsafe.payload import Payload
from worker.libsafe.reports import EndOfBatch, MessageReport, StatusReport
from worker.libsafe.sender import ReportSender


class Platforms(Protocol):
    """Knows how to talk to the platforms that this worker serves."""

    def client(self, address: JobAddress) -> PlatformClient:
        """Give a client for the platform at this address.

        Raises:
            HostNotAllowedError: The settings do not name its host; no key is sent there.
        """
        ...

    def sender(self, client: PlatformClient, job_id: str, outbox: Outbox) -> ReportSender:
        """Give a new sender of an outbox."""
        ...


class JobRunner:
    """Runs jobs and batches, many at once; whoever calls it holds the lease of the one or the other.

    What it raises is told in `JobRun.run`, `PlanRun.run` and `BatchRun.run`.
    """

    def __init__(self, platforms: Platforms, tools: JobTools) -> None:
        self._platforms = platforms
        self._tools = tools

    def check(self, address: JobAddress) -> None:
        """Make sure that the platform is one that may be sent a key.

        Raises:
            HostNotAllowedError: The settings do not name its host.
        """
        self._platforms.client(address)

    async def run(self, payload: Payload, books: Books, sending: Sending, stop: Stop, show: Show) -> JobEnd:
        """Run a payload's job to its end, or until it is spread; one that is spread already goes on."""
        await books.ledger.begin()
        if (await books.batches.planning()).is_spread:
            # Also one that was cancelled: its batches have to be settled, and their messages may be lost.
            await books.batches.spread(books.outbox.fence, sending, books.outbox.head)
            return JobEnd.SPREAD
        if reason := await books.ledger.cancelled():
            return await self.fail(payload.address, books, reason)
        return await JobRun(self._context(payload, books, stop, show), sending).run()

    async def plan(self, payload: Payload, books: Books, stop: Stop) -> None:
        """Plan a job that is spread."""
        context = self._context(payload, books, stop, lambda _: None)
        try:
            await PlanRun(context).run()
        except StoppedError as stopped:
            if stopped.reason is not StopReason.LEFT:
                raise
            await books.ledger.leave()
            await books.batches.finish_planning(books.outbox.fence)

    async def run_batch(self, payload: Payload, part: Part, books: Books, stop: Stop, show: Show) -> None:
        """Run a batch and settle it."""
        await BatchRun(self._context(payload, books, stop, show)).run(part)

    async def fail(self, address: JobAddress, books: Books, reason: str) -> JobEnd:
        """End a job FAILED without running it; one that is spread ends when what runs of it has ended."""
        if (await books.batches.planning()).is_spread:
            await books.ledger.cancel(reason)
            await books.batches.finish_planning(books.outbox.fence)
            return JobEnd.SPREAD
        sender = self._sender(address, books.outbox)
        async with sender:
            told = MessageReport(messages.not_run_message(reason), level="ERROR")
            await sender.put(told, StatusReport(JobStatus.FAILED))
            await sender.finish()
        await books.outbox.clear()
        return JobEnd.FAILED

    async def break_off(self, address: JobAddress, books: Books, reason: str) -> None:
        """Settle a batch without running it."""
        sender = self._sender(address, books.outbox)
        async with sender:
            await sender.put(broken_off(reason), EndOfBatch(books.batch, is_broken=True))
        await self.deliver_batch(address, books, is_broken=True)

    async def deliver(self, address: JobAddress, books: Books, *, is_ended: bool) -> None:
        """Bring the end of a job to the platform; put it first, if only its last batch was settled."""
        sender = self._sender(address, books.outbox)
        async with sender:
            if not is_ended:
                snapshot = await books.ledger.snapshot()
                if snapshot is not None and snapshot.is_left:
                    await books.outbox.discard()
                    return
                await sender.put(*end_of(snapshot))
            await sender.finish()
        await books.outbox.clear()

    async def deliver_batch(self, address: JobAddress, books: Books, *, is_broken: bool) -> None:
        """Bring the reports of a batch to the platform and settle it."""
        snapshot = await books.ledger.snapshot()
        if snapshot is not None and snapshot.is_left:
            await books.outbox.forget()
        sender = self._sender(address, books.outbox)
        async with sender:
            await sender.finish()
        await books.batches.settle(books.outbox.fence, books.batch, is_broken=is_broken)

    def _context(self, payload: Payload, books: Books, stop: Stop, show: Show) -> RunContext:
        client = self._platforms.client(payload.address)
        sender = self._platforms.sender(client, payload.address.job_id, books.outbox)
        return RunContext(client, sender, books, payload, self._tools, stop, show)

    def _sender(self, address: JobAddress, outbox: Outbox) -> ReportSender:
        return self._platforms.sender(self._platforms.client(address), address.job_id, outbox)
