"""How a job ends, by what its ledger has counted."""

from collections.abc import Mapping

import pytest

from worker.jobs.ending import broken_off, end_of
from worker.jobs.ledger import JobState, Snapshot
from worker.libsafe.models import JobStatus
from worker.libsafe.reports import MessageReport, StatusReport

COMPLETED, FAILED = StatusReport(JobStatus.COMPLETED), StatusReport(JobStatus.FAILED)


def snapshot(
    *,
    hashed_files: int = 2,
    not_hashed: Mapping[str, int] | None = None,
    passed_over: Mapping[str, int] | None = None,
    broken_batches: int = 0,
) -> Snapshot:
    """Make what a ledger has counted in two seconds."""
    return Snapshot(
        state=JobState.RUNNING,
        hashed_files=hashed_files,
        hashed_bytes=hashed_files * 3_000_000,
        not_hashed=not_hashed or {},
        passed_over=passed_over or {},
        broken_batches=broken_batches,
        seconds=2.0,
    )


def test_a_job_of_which_every_file_was_hashed_is_completed() -> None:
    """Its last message sums it up."""
    assert end_of(snapshot(), None) == [
        MessageReport("Hashed 2 files, 6000000 bytes in 2.00 s, 3.0 MB/s."),
        COMPLETED,
    ]


def test_a_job_without_files_is_completed() -> None:
    """There was nothing to do, and it was done."""
    assert end_of(snapshot(hashed_files=0), None) == [
        MessageReport("Hashed 0 files, 0 bytes in 2.00 s, 0.0 MB/s."),
        COMPLETED,
    ]


def test_what_was_passed_over_does_not_fail_a_job() -> None:
    """It is counted."""
    assert end_of(snapshot(passed_over={"offline": 1}), None) == [
        MessageReport("Hashed 2 files, 6000000 bytes in 2.00 s, 3.0 MB/s; 1 file passed over: 1 offline."),
        COMPLETED,
    ]


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (snapshot(not_hashed={"no_such_object": 1}), "; 1 file not hashed: 1 no such object."),
        (snapshot(broken_batches=1), "; 1 batch was broken off."),
    ],
)
def test_a_file_or_a_batch_that_was_not_done_fails_the_job(counted: Snapshot, words: str) -> None:
    """Whoever finds a job COMPLETED relies on every file."""
    summary, status = end_of(counted, None)

    assert isinstance(summary, MessageReport)
    assert summary.text.endswith(words)
    assert status == FAILED


def test_a_job_that_is_broken_off_says_why_and_what_it_has_done() -> None:
    """The reason first, as an error; the status last."""
    assert end_of(snapshot(), "it was cancelled.") == [
        MessageReport("The job was broken off: it was cancelled.", level="ERROR"),
        MessageReport("Hashed 2 files, 6000000 bytes in 2.00 s, 3.0 MB/s."),
        FAILED,
    ]


def test_of_a_ledger_that_the_broker_has_lost_nothing_is_counted() -> None:
    """The job ends all the same."""
    assert end_of(None, "an operator terminated it.") == [
        MessageReport("The job was broken off: an operator terminated it.", level="ERROR"),
        MessageReport("Hashed 0 files, 0 bytes in 0.00 s, 0.0 MB/s."),
        FAILED,
    ]


def test_why_a_batch_is_broken_off_is_an_error_in_a_sentence() -> None:
    """It is about the job, not about one file."""
    assert broken_off("a lane died.") == MessageReport("The job was broken off: a lane died.", level="ERROR")
