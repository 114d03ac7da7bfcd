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
