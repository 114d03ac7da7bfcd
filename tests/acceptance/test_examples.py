"""The examples, each run as its docstring says, against a real broker, S3 server, jobs API and worker."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest_asyncio.fixture
async def worker(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[ChildProcess]:
    """Run one worker process."""
    process = ChildProcess(
        [sys.executable, "-m", "worker", "run"], env=environment, log_path=tmp_path / "worker.log"
    )
    await process.start()
    yield process
    await process.stop()


def run_example(name: str, *arguments: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run an example to its end."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_payload_comes_to_a_worker_by_a_redis_client_alone(
    platform: LocalPlatform, worker: ChildProcess, tmp_path: Path
) -> None:
    """The job ends, under the task id that was printed."""
    (tmp_path / "file.txt").write_bytes(b"abc")
    file_ids = await platform.add_path(tmp_path / "file.txt")
    job_id, payload = platform.new_job(file_ids=file_ids)
    (tmp_path / "payload.json").write_text(json.dumps(payload), encoding="utf-8")

    done = await asyncio.to_thread(
        run_example, "enqueue_without_celery.py", tmp_path / "payload.json", BROKER_URL=platform.broker_url
    )
    while platform.job(job_id).status not in ENDED:
        assert worker.pid, worker.log_tail()
        await asyncio.sleep(0.02)

    assert (done.returncode, done.stderr) == (0, "")
    assert platform.job(job_id).status == "COMPLETED"
    assert platform.hashes(file_ids[0])["md5"] == "900150983cd24fb0d6963f7d28e17f72"
    log = (tmp_path / "worker.log").read_text(encoding="utf-8")
    assert done.stdout.strip() in log
    assert payload["api"]["key_user"] not in log


def test_the_example_knows_nothing_of_celery_or_of_us() -> None:
    """Whoever copies it needs a Redis client and nothing else."""
    program = (EXAMPLES / "enqueue_without_celery.py").read_text(encoding="utf-8")

    imported = {line.split()[1] for line in program.splitlines() if line.startswith(("import ", "from "))}

    assert imported - set(sys.stdlib_module_names) == {"redis"}
