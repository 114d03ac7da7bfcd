"""The entrance: a payload, as it came, is run as a job and the platform is told how it ended."""

from functools import partial
from typing import Any, Protocol

import structlog

from worker.jobs import messages
from worker.jobs.run import JobEnd, JobRun, JobTools
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import JobAddress, PayloadError
from worker.libsafe.models import JobStatus
from worker.libsafe.payload import Payload
from worker.libsafe.reports import MessageReport, StatusReport
from worker.libsafe.sender import ReportSender

_log = structlog.get_logger(__name__)


class Platforms(Protocol):
    """Knows how to talk to the platforms that this worker serves."""

    def client(self, address: JobAddress) -> PlatformClient:
        """Give a client for the platform at this address.

        Raises:
            HostNotAllowedError: The settings do not name its host; no key is sent there.
        """
        ...

    def sender(self, client: PlatformClient, job_id: str) -> ReportSender:
        """Give a new sender of a job's reports."""
        ...


class JobRunner:
    """Runs jobs, many at once."""

    def __init__(self, platforms: Platforms, tools: JobTools) -> None:
        self._platforms = platforms
        self._tools = tools

    async def run(self, document: bytes | str | dict[str, Any]) -> JobEnd:
        """Run one payload's job to its end.

        A payload that can't be used ends its job FAILED with every fault in a message, where at least the
        platform's address, the key and the job's id can be read from it.

        Args:
            document: The payload, as JSON or decoded already.

        Raises:
            PayloadError: It can't be used, nor can anybody be told.
            LibsafeError: The platform can't be told how the job ended; see the code for whether to try again.
        """
        try:
            payload = Payload.parse(document)
        except PayloadError as error:
            if error.job is None:
                raise
            return await self._refuse(error.job, error)
        address = payload.address
        with structlog.contextvars.bound_contextvars(job_id=address.job_id):
            client = self._platforms.client(address)
            new_sender = partial(self._platforms.sender, client, address.job_id)
            return await JobRun(client, new_sender, payload, self._tools).run()

    async def _refuse(self, address: JobAddress, error: PayloadError) -> JobEnd:
        faults = [str(fault) for fault in error.faults]
        _log.warning("A payload can't be used", job_id=address.job_id, faults=faults)
        client = self._platforms.client(address)
        async with self._platforms.sender(client, address.job_id) as sender:
            told = MessageReport(messages.unusable_payload_message(error), level="ERROR")
            await sender.put(told, StatusReport(JobStatus.FAILED))
            await sender.flush()
        return JobEnd.FAILED
