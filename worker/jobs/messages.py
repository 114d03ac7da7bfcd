"""The words in which a job speaks to the platform's users."""

from collections.abc import Mapping
from types import MappingProxyType

BYTES_PER_MB = 1_000_000


def digest_message(label: str, hex_digest: str) -> str:
    """Word one digest as the platform's own sample function does: `File hash calculated: MD5    - <hex>`."""
    return f"File hash calculated: {label:<6} - {hex_digest}"


def no_metadata_message(file_id: str) -> str:
    """Say that a file has no metadata, as the platform's own sample function does."""
    return f"File {file_id} has no metadata"


def not_hashed_message(name: str, reason: str) -> str:
    """Say which file has no digests and why."""
    return f"{name} was not hashed: {reason}"


def summary_message(
    *,
    hashed_files: int,
    hashed_bytes: int,
    seconds: float,
    not_hashed: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Sum a job up: files, bytes, seconds, MB/s (of 1,000,000 bytes), and what went wrong how often.

    A job without files is 0 files and 0 bytes; its rate is 0.

    Args:
        hashed_files: With all their digests.
        hashed_bytes: In them.
        seconds: Since the job began to run.
        not_hashed: Files without digests, by the code of the reason.
    """
    rate = hashed_bytes / BYTES_PER_MB / seconds if seconds > 0 else 0.0
    parts = [
        f"Hashed {_counted(hashed_files, 'file')}, {hashed_bytes} bytes in {seconds:.2f} s, {rate:.1f} MB/s"
    ]
    if not_hashed:
        counts = ", ".join(f"{count} {code.replace('_', ' ')}" for code, count in sorted(not_hashed.items()))
        parts.append(f"{_counted(sum(not_hashed.values()), 'file')} not hashed: {counts}")
    return "; ".join(parts) + "."


def not_run_message(reason: str) -> str:
    """Say why a job failed before any file was looked at."""
    return f"The job can't run: {reason}"


def broken_off_message(reason: str) -> str:
    """Say that a job ended early, with files that were not looked at."""
    return f"The job was broken off: {reason}"


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
