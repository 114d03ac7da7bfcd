"""`hash-worker local`: the platform on this machine until Ctrl-C, and what a client of it needs."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from worker.local.platform import LocalPlatform
from worker.local.worker_config import worker_environment


async def run_in_foreground(directory: Path, paths: Sequence[Path], tell: Callable[[str], object]) -> None:
    """Run the platform until this task is cancelled.

    Args:
        directory: An empty folder for logs, data, the worker's settings and a payload.
        paths: Files and folders to put on the platform first.
        tell: Is given the lines for the user.

    Raises:
        LocalError: A part did not start.
    """
    async with LocalPlatform(directory) as platform:
        file_ids = await platform.add_paths(paths)
        config = worker_environment(platform, directory, os.environ)["HASH_WORKER_CONFIG"]
        job_id, payload = platform.new_job(file_ids=file_ids)
        payload_path = directory / "payload.json"
        payload_path.touch(mode=0o600)
        payload_path.write_text(json.dumps(payload, indent=2), encoding="utf-8")
        tell(
            f"jobs API   {platform.api_url}/api (its document: {platform.api_url}/api/openapi.json)\n"
            f"S3         {platform.s3_endpoint}, bucket {platform.bucket}\n"
            f"settings   {config}\n"
            f"payload    {payload_path} (job {job_id}, {len(file_ids)} files)\n"
            "\n"
            "In another terminal:\n"
            f"  export HASH_WORKER_CONFIG={config}\n"
            "  hash-worker check\n"
            "  hash-worker run\n"
            "and in a third one, with the same export:\n"
            f"  hash-worker enqueue {payload_path}\n"
            "\n"
            "Ctrl-C ends it."
        )
        await asyncio.get_running_loop().create_future()
