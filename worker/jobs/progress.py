"""A run's progress: into the ledger every two seconds, out of it for whoever wants to see the whole job's."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from worker.jobs import messages
from worker.jobs.ledger import Ledger, Snapshot
from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.errors import LibsafeError
from worker.libsafe.reports import MessageReport
from worker.libsafe.sender import ReportSender

_TICK_SECONDS = 2

Show = Callable[[Snapshot], None]
"""Is shown a job's progress, every two seconds while one of its runs is under way."""

_log = structlog.get_logger(__name__)


class Progress:
    """Ticks while its block runs; a job that was cancelled has the run stopped.

    Args:
        ledger: The job's.
        batch: Whose progress; 0 for a job that is run whole.
        sender: Of the run's reports: now and then the platform is told.
        stop: Of the run.
        show: Is shown the whole job's progress.
    """

    def __init__(self, ledger: Ledger, batch: int, sender: ReportSender, stop: Stop, show: Show) -> None:
        self._ledger = ledger
        self._batch = batch
        self._sender = sender
        self._stop = stop
        self._show = show
        self._moving_bytes = 0

    def __repr__(self) -> str:
        return f"<Progress of {self._ledger!r}, batch {self._batch}: {self._moving_bytes} bytes moving>"

    def add(self, size_bytes: int) -> None:
        """Count bytes of a file that is under way; less than none, when the file is done."""
        self._moving_bytes += size_bytes

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self._tick_on(), name=f"progress of {self._ledger.job}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticking.cancel()
        await asyncio.wait([self._ticking])

    async def _tick_on(self) -> None:
        while True:
            try:
                await self._tick()
            except LibsafeError:
                return  # the lease is lost, or nobody can be told: the run finds out by itself
            except Exception:  # noqa: BLE001 - the run is worth more than its progress
                _log.exception("The progress of a job can't be told")
            await asyncio.sleep(_TICK_SECONDS)

    async def _tick(self) -> None:
        snapshot, is_to_be_told = await self._ledger.tick(self._batch, self._moving_bytes)
        if snapshot is None:
            return
        if snapshot.cancelled:
            self._stop.request(StopReason.CANCELLED)
            return
        self._show(snapshot)
        if is_to_be_told and snapshot.share is not None:
            await self._sender.put(
                MessageReport(
                    messages.progress_message(
                        share=snapshot.share,
                        files=snapshot.files,
                        done_files=snapshot.done_files,
                        megabytes_per_second=snapshot.bytes_per_second / messages.BYTES_PER_MB,
                        seconds_left=snapshot.seconds_left,
                    )
                )
            )
