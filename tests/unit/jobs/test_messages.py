"""The wording of messages: the platform's own where it has one."""

import pytest

from worker.jobs import messages


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("MD5", "File hash calculated: MD5    - ab"),
        ("SHA1", "File hash calculated: SHA1   - ab"),
        ("SHA256", "File hash calculated: SHA256 - ab"),
        ("BLAKE3", "File hash calculated: BLAKE3 - ab"),
        ("CRC64NVME", "File hash calculated: CRC64NVME - ab"),
    ],
)
def test_a_digest_is_told_in_the_wording_of_the_platforms_sample(label: str, text: str) -> None:
    """Names shorter than SHA256 are filled up, so that digests stand below one another."""
    assert messages.digest_message(label, "ab") == text


def test_a_summary_counts_files_bytes_seconds_and_rate() -> None:
    """MB are of 1,000,000 bytes."""
    text = messages.summary_message(hashed_files=2, hashed_bytes=3_000_000, seconds=1.5)

    assert text == "Hashed 2 files, 3000000 bytes in 1.50 s, 2.0 MB/s."


def test_a_summary_counts_each_reason_in_order_of_its_name() -> None:
    """Whoever reads only the last message knows how many files failed of what."""
    text = messages.summary_message(
        hashed_files=1, hashed_bytes=1, seconds=1, not_hashed={"no_such_object": 1, "folder": 2}
    )

    assert text.endswith("; 3 files not hashed: 2 folder, 1 no such object.")


def test_a_job_without_files_has_the_rate_zero() -> None:
    """No files, no bytes, no time: no division."""
    text = messages.summary_message(hashed_files=0, hashed_bytes=0, seconds=0)

    assert text == "Hashed 0 files, 0 bytes in 0.00 s, 0.0 MB/s."


def test_a_summary_counts_what_was_passed_over_and_what_was_broken_off() -> None:
    """Everything that is not hashed stands there, the errors first."""
    text = messages.summary_message(
        hashed_files=1,
        hashed_bytes=1,
        seconds=1,
        not_hashed={"access_denied": 1},
        passed_over={"offline": 2, "deleted": 1},
        broken_batches=2,
    )

    assert text == (
        "Hashed 1 file, 1 bytes in 1.00 s, 0.0 MB/s; 1 file not hashed: 1 access denied; "
        "3 files passed over: 1 deleted, 2 offline; 2 batches were broken off."
    )


def test_a_summary_of_one_of_each_speaks_of_one() -> None:
    """One file, one batch."""
    text = messages.summary_message(
        hashed_files=0, hashed_bytes=0, seconds=0.004, passed_over={"excluded": 1}, broken_batches=1
    )

    assert text == (
        "Hashed 0 files, 0 bytes in 0.00 s, 0.0 MB/s; 1 file passed over: 1 excluded; 1 batch was broken off."
    )


@pytest.mark.parametrize(
    ("share", "files", "done_files", "megabytes_per_second", "seconds_left", "text"),
    [
        (0.0, 1000, 0, 0.0, None, "0 % done: 0 of 1000 files, 0.0 MB/s."),
        (0.05, 20, 1, 0.04, 7200, "5 % done: 1 of 20 files, 0.0 MB/s, 2.0 h left."),
        (0.454, 1000, 450, 123.44, 720, "45 % done: 450 of 1000 files, 123.4 MB/s, 12 min left."),
        (1.0, 1, 1, 1000.0, 0.0, "100 % done: 1 of 1 file, 1000.0 MB/s, 0 s left."),
    ],
)
def test_progress_is_told_in_one_line(
    share: float,
    files: int,
    done_files: int,
    megabytes_per_second: float,
    seconds_left: float | None,
    text: str,
) -> None:
    """What is done, how fast it goes, and how long it takes, where that can be told."""
    told = messages.progress_message(
        share=share,
        files=files,
        done_files=done_files,
        megabytes_per_second=megabytes_per_second,
        seconds_left=seconds_left,
    )

    assert told == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (50, "50 s"),
        (99.4, "99 s"),
        (99.5, "2 min"),
        (720, "12 min"),
        (5969, "99 min"),
        (5970, "1.7 h"),
        (12_600, "3.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_a_time_is_said_in_its_largest_unit_that_makes_sense(seconds: float, text: str) -> None:
    """Two digits, as far as there are no days."""
    assert messages.duration(seconds) == text
