"""How a job ends: what its users are told last, and the status."""

from worker.jobs import messages
from worker.jobs.ledger import Snapshot
from worker.libsafe.models import JobStatus
from worker.libsafe.reports import MessageReport, Report, StatusReport


def end_of(snapshot: Snapshot | None, broken: str | None = None) -> list[Report]:
    """Give the end of a job, from what its ledger has counted.

    Args:
        snapshot: None if the broker has lost it.
        broken: Why the job is broken off, a sentence's end; None if that is only known if it was cancelled.
    """
    counted = snapshot or Snapshot()
    broken = broken or counted.cancelled or None
    summary = messages.summary_message(
        hashed_files=counted.hashed_files,
        hashed_bytes=counted.hashed_bytes,
        seconds=counted.seconds,
        not_hashed=counted.not_hashed,
        passed_over=counted.passed_over,
        broken_batches=counted.broken_batches,
    )
    is_well = broken is None and not counted.not_hashed and not counted.broken_batches
    return [
        *([broken_off(broken)] if broken else []),
        MessageReport(summary),
        StatusReport(JobStatus.COMPLETED if is_well else JobStatus.FAILED),
    ]


def broken_off(reason: str) -> MessageReport:
    """Say why a job ends early."""
    return MessageReport(messages.broken_off_message(reason), level="ERROR")
