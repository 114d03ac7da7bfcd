"""The entrance: a payload that was read is run as a job, and the platform is told how it ended."""

from typing import Protocol

from worker.jobs import messages
from worker.jobs.run import JobEnd, JobRun, JobTools
from worker.jobs.stopping import Stop
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import JobAddress
from worker.libsafe.models import JobStatus
from worker.libsafe.outbox import Outbox
from worker.libsafe.payload import Payload
from worker.libsafe.reports import MessageReport, StatusReport
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
        """Give a new sender of a job's outbox."""
        ...


class JobRunner:
    """Runs jobs, many at once; whoever calls it holds the job's lease, as the outbox's fence.

    What it raises is told in `JobRun.run`.
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

    async def run(self, payload: Payload, outbox: Outbox, stop: Stop) -> JobEnd:
        """Run one payload's job to its end."""
        client, sender = self._sender(payload.address, outbox)
        run = JobRun(
            client=client, outbox=outbox, sender=sender, payload=payload, tools=self._tools, stop=stop
        )
        return await run.run()

    async def fail(self, address: JobAddress, outbox: Outbox, reason: str) -> JobEnd:
        """End a job FAILED without running it."""
        _, sender = self._sender(address, outbox)
        async with sender:
            told = MessageReport(messages.not_run_message(reason), level="ERROR")
            await sender.put(told, StatusReport(JobStatus.FAILED))
            await sender.finish()
        await outbox.clear()
        return JobEnd.FAILED

    async def deliver(self, address: JobAddress, outbox: Outbox) -> None:
        """Bring what the outbox of an ended job holds to the platform."""
        _, sender = self._sender(address, outbox)
        async with sender:
            await sender.finish()
        await outbox.clear()

    def _sender(self, address: JobAddress, outbox: Outbox) -> tuple[PlatformClient, ReportSender]:
        client = self._platforms.client(address)
        return client, self._platforms.sender(client, address.job_id, outbox)
