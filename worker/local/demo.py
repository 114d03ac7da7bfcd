"""The demo: a whole platform on this machine, one real worker, one job, and everything gone again."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.local.errors import StartError
from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess
from worker.local.store import PlatformStore
from worker.local.worker_config import worker_environment
from worker.queueing.app import enqueue, make_app

_POLL_SECONDS = 0.1
_LOG_LINES = 15

Progress = Callable[[int, int], None]
"""Is told the files hashed so far and all files."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the platform knows of the job at its end."""

    job_id: str
    status: str
    files: list[dict[str, Any]]
    messages: list[dict[str, Any]]

    @property
    def completed(self) -> bool:
        """Tell whether the job did all it should."""
        return self.status == "COMPLETED"

    def as_json(self) -> dict[str, Any]:
        """Give the document that `hash-worker demo --json` prints."""
        job = {"id": self.job_id, "status": self.status}
        return {"job": job, "files": self.files, "messages": self.messages}


async def run_demo(
    directory: Path, paths: Sequence[Path], algorithms: Sequence[str], progress: Progress
) -> DemoResult:
    """Upload files, run one job over them on a real worker, and tell what the platform has afterwards.

    Args:
        directory: An empty folder for logs and data; the caller removes it.
        paths: Files and folders to hash.
        algorithms: Their names; none means the worker's default.
        progress: Called several times a second while the job runs.

    Raises:
        LocalError: A part did not start, or the worker ended before the job did.
    """
    async with LocalPlatform(directory) as platform, running_worker(platform, directory) as worker:
        file_ids = await platform.add_paths(paths)
        parameters = {"algorithms": list(algorithms)} if algorithms else {}
        job_id, payload = platform.new_job(file_ids=file_ids, function_params=parameters)
        await asyncio.to_thread(enqueue, make_app(platform.broker_url), payload)
        while platform.job(job_id).status not in ENDED:
            if worker.pid is None:
                last_lines = worker.log_tail(_LOG_LINES)
                raise StartError(f"The worker ended before its job; its last lines:\n{last_lines}")
            progress(platform.store.hashed_files(), len(file_ids))
            await asyncio.sleep(_POLL_SECONDS)
        progress(platform.store.hashed_files(), len(file_ids))
        return result_of(platform.store, platform.container_id, job_id)


@asynccontextmanager
async def running_worker(platform: LocalPlatform, directory: Path) -> AsyncIterator[ChildProcess]:
    """Run one worker process for the platform while the block runs.

    Raises:
        LocalError: It did not start.
    """
    worker = ChildProcess(
        [sys.executable, "-m", "worker", "run"],
        env=worker_environment(platform, directory, os.environ),
        log_path=directory / "worker.log",
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


def result_of(store: PlatformStore, container_id: str, job_id: str) -> DemoResult:
    """Give what a platform's records hold of a job, and of all files of its container."""
    files = [
        {
            "id": file.id,
            "path": file.fullpath.removeprefix("/"),
            "size": file.size,
            "hashes": {stored.algorithm: stored.hash for stored in store.hashes(file.id)},
        }
        for file in store.files(container_id)
        if file.type == "FILE"
    ]
    messages = [
        {"type": message.type, "text": message.message, "file_id": message.file_id}
        for message in store.messages(job_id)
    ]
    return DemoResult(job_id, store.job(job_id).status, files, messages)
