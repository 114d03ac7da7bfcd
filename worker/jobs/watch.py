"""The watch over a run: is its job still wanted, can anybody be told, does anything move?"""

import asyncio
import time
from types import TracebackType
from typing import Self

import structlog

from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import LibsafeError, NotAuthorizedError, NotFoundError
from worker.libsafe.sender import ReportSender, has_ended

# Twice for each message of progress, so that hardly one follows an end that somebody set on the platform.
_LOOK_SECONDS = 5
# Each wait of a run ends sooner by itself, a storage's that asks to slow down after 900 s; so only something
# stuck takes that long.
_STALLED_SECONDS = 1800
# Something between us and the platform may say for half a minute that there is nothing, as in an upgrade.
_LOOKS_FOR_A_MISSING_JOB = 6

_log = structlog.get_logger(__name__)


class Watch:
    """Looks at a run every five seconds while its block runs, and requests its stop.

    Args:
        client: To the job's platform.
        sender: Of its reports.
        job_id: The job.
        stop: Of the run.

    Attributes:
        untold: Why the platform can't be told any more, if that is what the run was stopped for.
    """

    def __init__(self, client: PlatformClient, sender: ReportSender, job_id: str, stop: Stop) -> None:
        self.untold: Exception | None = None
        self._client = client
        self._sender = sender
        self._job_id = job_id
        self._stop = stop
        self._moved_seconds = time.monotonic()
        self._missing = 0

    def __repr__(self) -> str:
        return f"<Watch of job {self._job_id}, {self._stop!r}>"

    def note_progress(self) -> None:
        """Take note that the run has got a byte, a file or a name further."""
        self._moved_seconds = time.monotonic()

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name=f"watch of job {self._job_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
        await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        while self._stop.reason is None:
            try:
                await self._sender.look(_LOOK_SECONDS)
                await self._look_at_the_platform()
            except Exception as error:  # noqa: BLE001 - the run raises it
                self.untold = error
                self._stop.request(StopReason.UNTOLD)
                return
            if time.monotonic() - self._moved_seconds > _STALLED_SECONDS:
                _log.error("A job is stuck and goes back to the queue", seconds=_STALLED_SECONDS)
                self._stop.request(StopReason.STALLED)

    async def _look_at_the_platform(self) -> None:
        try:
            if await has_ended(self._client, self._job_id):
                _log.warning("The platform has ended the job")
                self._stop.request(StopReason.LEFT)
        except NotAuthorizedError:
            raise
        except NotFoundError:
            self._missing += 1
            if self._missing == _LOOKS_FOR_A_MISSING_JOB:
                raise
        except LibsafeError:
            pass  # it is away, and will be asked again
        else:
            self._missing = 0
