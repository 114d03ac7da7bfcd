"""`hash-worker local`: the platform on this machine until Ctrl-C, and what a client of it needs."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from worker.local.platform import LocalPlatform
from worker.local.sample import make_sample
from worker.local.worker_config import worker_environment


async def run_in_foreground(
    directory: Path, paths: Sequence[Path], tell: Callable[[str], object], *, host: str | None = None
) -> None:
    """Run the platform until this task is cancelled.

    Args:
        directory: An empty folder for logs, data, the worker's settings and a payload.
        paths: Files and folders to put on the platform first; the sample if none.
        tell: Is given the lines for the user.
        host: As in `LocalPlatform`; the worker has settings of its own then.

    Raises:
        LocalError: A part did not start.
    """
    async with LocalPlatform(directory, host=host) as platform:
        file_ids = await platform.add_paths(paths or [make_sample(directory)])
        job_id, payload = platform.new_job(file_ids=file_ids)
        path = payload_path(directory)
        path.touch(mode=0o600)
        path.write_text(json.dumps(payload, indent=2), encoding="utf-8")
        tell(
            f"jobs API   {platform.api_url}/api (its document: {platform.api_url}/api/openapi.json)\n"
            f"S3         {platform.s3_endpoint}, bucket {platform.bucket}\n"
            f"payload    {path} (job {job_id}, {len(file_ids)} files)"
        )
        if host is None:
            tell(
                _how_to_go_on(worker_environment(platform, directory, os.environ)["HASH_WORKER_CONFIG"], path)
            )
        await asyncio.get_running_loop().create_future()


def payload_path(directory: Path) -> Path:
    """Give the file of the payload that a platform in this folder begins with."""
    return directory / "payload.json"


def _how_to_go_on(config: str, payload: Path) -> str:
    return (
        f"settings   {config}\n"
        "\n"
        "In another terminal:\n"
        f"  export HASH_WORKER_CONFIG={config}\n"
        "  hash-worker check\n"
        "  hash-worker run\n"
        "and in a third one, with the same export:\n"
        f"  hash-worker enqueue {payload}\n"
        "\n"
        "Ctrl-C ends it."
    )
