"""A worker that reads nothing: `python -m bench.simulated_worker MB_PER_SECOND [options of celery worker]`.

Instead of reading and hashing a file it waits as long as that takes at this rate, and its digests are zeros.
All else is the worker itself.

At 0 MB/s it does not wait, and what it would tell the platform of a file goes into the outbox and out of it
as ever, but is taken for accepted without a request: nine requests a file would be all that is measured. What
is told of the job is sent.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from worker.bootstrap.service import run_worker
from worker.jobs.file_run import FileRun, HashedFile
from worker.libsafe.client import PlatformClient
from worker.libsafe.models import FileRecord
from worker.observability import configure_logging
from worker.settings import load

_post_message = PlatformClient.post_message


def replace_reading(bytes_per_second: float) -> None:
    """Have files waited for instead of read, in this process."""

    async def hash_file(self: FileRun, record: FileRecord, on_bytes: Callable[[int], None]) -> HashedFile:
        if bytes_per_second:
            await asyncio.sleep(record.size_bytes / bytes_per_second)
        on_bytes(record.size_bytes)
        digests = {row.name: bytes(row.digest_bytes) for row in self._algorithms}
        return HashedFile(record, None, record.size_bytes, digests)

    FileRun.hash_file = hash_file  # type: ignore[method-assign]  # that is what it is for


def replace_reports_of_files() -> None:
    """Have what is told of a file taken for accepted, in this process."""

    async def post_message(self: PlatformClient, *report: Any) -> None:
        _, _, _, file_id, _ = report
        if file_id is None:
            await _post_message(self, *report)

    async def set_hash(*_: str) -> None:
        pass

    PlatformClient.post_message = post_message  # type: ignore[assignment,method-assign]  # takes anything
    PlatformClient.set_hash = set_hash  # type: ignore[assignment,method-assign]  # takes anything


def main() -> None:
    """Run the worker until it is told to stop."""
    megabytes_per_second = float(sys.argv[1])
    replace_reading(megabytes_per_second * 1e6)
    if not megabytes_per_second:
        replace_reports_of_files()
    settings = load()
    configure_logging(settings.log.level, settings.log.format)
    sys.exit(run_worker(settings, sys.argv[2:]))


if __name__ == "__main__":
    main()
