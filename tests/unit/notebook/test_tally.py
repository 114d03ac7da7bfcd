"""What a job has not done, by name."""

from worker.notebook.tally import Tally


def test_a_job_misses_nothing_at_first() -> None:
    """Nor when all that was expected is done."""
    tally = Tally()
    before = tally.missing
    tally.begin_listing()
    tally.expect(["1", "2"])
    tally.finish("1")
    tally.finish("2")

    assert (before, tally.missing) == ("", "")


def test_a_file_counts_once_however_it_is_missed() -> None:
    """Unread, unfinished, or both, and by two runs."""
    tally = Tally()
    for _ in range(2):
        tally.begin_listing()
        tally.expect(["1", "2"])
    tally.note_unread("2")
    tally.note_unread("2")
    unfinished = tally.missing
    tally.finish("1")
    tally.finish("1")

    assert unfinished == "2 files were not read"
    assert tally.missing == "1 file was not read"


def test_what_a_stopped_run_has_not_done_stays_missing() -> None:
    """Though another run has done it since, which may have been by other algorithms."""
    tally = Tally()
    tally.begin_listing()
    tally.expect(["1"])
    tally.begin_listing()
    tally.expect(["1"])
    tally.finish("1")

    assert tally.missing == "1 file was not read"


def test_all_kinds_are_told_together() -> None:
    """In one clause, which a sentence goes on from."""
    tally = Tally()
    tally.begin_listing()
    tally.note_unread("1")
    tally.note_refused()
    tally.note_refused()

    assert tally.missing == (
        "1 listing of files was not finished and 1 file was not read and 2 reports were refused"
    )
