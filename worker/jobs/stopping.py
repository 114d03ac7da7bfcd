"""How a job's run is stopped from outside, and why."""

import asyncio
from enum import StrEnum
from types import TracebackType
from typing import Self


class StopReason(StrEnum):
    """Why a run is stopped before its end."""

    SHUTDOWN = "shutdown"
    """Its worker ends; the job goes on elsewhere, the platform is told nothing."""
    REVOKED = "revoked"
    """An operator terminated its task; the job ends FAILED."""
    CANCELLED = "cancelled"
    """Its job was cancelled; it ends FAILED."""
    TIME_LIMIT = "time_limit"
    """It took longer than its task's time limit; the job ends FAILED."""
    STALLED = "stalled"
    """No byte came for so long that something is stuck; the job goes on elsewhere."""
    LEASE_LOST = "lease_lost"
    """Another worker has the job now; this one writes nothing more."""
    UNTOLD = "untold"
    """The platform takes no report any more; nothing that is found out could be told."""
    LEFT = "left"
    """The platform has ended the job."""


ENDS_JOB = {
    StopReason.CANCELLED: "it was cancelled.",
    StopReason.REVOKED: "an operator terminated it.",
    StopReason.TIME_LIMIT: "it took longer than its time limit allows.",
}
"""The reasons after which the job is FAILED, and what its users are told."""


class StoppedError(Exception):
    """A block under a `Stop` was left because of it."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Stop:
    """A switch that ends what runs under it: `with stop:` raises StoppedError once it is requested.

    Only one block at a time runs under it; several may do so one after the other, and those after the request
    are not begun. Asked for twice, the first reason counts. It belongs to one event loop.
    """

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._task: asyncio.Task[object] | None = None

    def __repr__(self) -> str:
        return f"<Stop {self.reason or 'not requested'}>"

    def request(self, reason: StopReason) -> None:
        """End the block that runs, and each that is to come."""
        if self.reason is None:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()

    def __enter__(self) -> Self:
        if self.reason is not None:
            raise StoppedError(self.reason)
        self._task = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        # Also one who cancels from elsewhere may be on his way: then the cancellation goes on.
        if self.reason is not None and task is not None and not task.uncancel():
            raise StoppedError(self.reason) from error
