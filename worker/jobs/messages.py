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
    passed_over: Mapping[str, int] = MappingProxyType({}),
    broken_batches: int = 0,
) -> str:
    """Sum a job up: files, bytes, seconds, MB/s (of 1,000,000 bytes), and what was not hashed how often.

    A job without files is 0 files and 0 bytes; its rate is 0.

    Args:
        hashed_files: With all their digests.
        hashed_bytes: In them.
        seconds: Since the job began to run.
        not_hashed: Files without digests, by the code of the reason.
        passed_over: Files that nobody wants hashed, by the code of the reason.
        broken_batches: Batches that ended early, with files that were not looked at.
    """
    rate = hashed_bytes / BYTES_PER_MB / seconds if seconds > 0 else 0.0
    parts = [
        f"Hashed {_counted(hashed_files, 'file')}, {hashed_bytes} bytes in {seconds:.2f} s, {rate:.1f} MB/s"
    ]
    if not_hashed:
        parts.append(f"{_counted(sum(not_hashed.values()), 'file')} not hashed: {_by_code(not_hashed)}")
    if passed_over:
        parts.append(passed_over_message(passed_over).removesuffix("."))
    if broken_batches:
        what = "1 batch was" if broken_batches == 1 else f"{broken_batches} batches were"
        parts.append(f"{what} broken off")
    return "; ".join(parts) + "."


def passed_over_message(counts: Mapping[str, int]) -> str:
    """Say how many files nobody wants hashed, by the code of the reason."""
    return f"{_counted(sum(counts.values()), 'file')} passed over: {_by_code(counts)}."


def progress_message(
    *, share: float, files: int, done_files: int, megabytes_per_second: float, seconds_left: float | None
) -> str:
    """Say how far a job is, as in `45 % done: 450 of 1000 files, 123.4 MB/s, 12 min left`."""
    left = "" if seconds_left is None else f", {duration(seconds_left)} left"
    rate = f"{megabytes_per_second:.1f} MB/s"
    # Rounded down: 100 % is said of what is done.
    return f"{int(share * 100)} % done: {done_files} of {_counted(files, 'file')}, {rate}{left}."


def duration(seconds: float) -> str:
    """Say a time in its largest unit that makes sense: `50 s`, `12 min`, `3.5 h`."""
    if seconds < 99.5:  # noqa: PLR2004 - three digits of seconds are minutes
        return f"{seconds:.0f} s"
    if seconds < 5970:  # noqa: PLR2004 - the same of minutes
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def not_run_message(reason: str) -> str:
    """Say why a job failed before any file was looked at."""
    return f"The job can't run: {reason}"


def broken_off_message(reason: str) -> str:
    """Say that a job ended early, with files that were not looked at."""
    return f"The job was broken off: {reason}"


def _by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code.replace('_', ' ')}" for code, count in sorted(counts.items()))


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
