"""How programs and notebooks end, and what becomes of the jobs that they forget."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import pytest_asyncio
from nbclient import NotebookClient

from worker.local.platform import LocalPlatform
from worker.local.worker_config import worker_environment

BEGIN = """
import json, os, sys, time
from worker.notebook import Request
payload = json.loads(os.environ["PAYLOAD"])
request = Request(None, payload)
request.job_init()
"""
FORGOTTEN = ["ERROR: The job was broken off: its notebook or program ended without job_end."]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPlatform]:
    """Run one platform outside of the programs."""
    async with LocalPlatform(tmp_path_factory.mktemp("platform") / "data") as running:
        yield running


@pytest.fixture
def environment(platform: LocalPlatform, tmp_path: Path) -> dict[str, str]:
    """Give the variables of a program that speaks with it."""
    return worker_environment(platform, tmp_path, os.environ)


async def run(
    environment: dict[str, str], payload: dict[str, Any], code: str
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", BEGIN + code],
            env=environment | {"PAYLOAD": json.dumps(payload)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("code", "exit_status"), [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1), ("del request", 0)]
)
async def test_a_job_that_nobody_ends_is_failed_when_the_program_ends(
    platform: LocalPlatform, environment: dict[str, str], code: str, exit_status: int
) -> None:
    """However it does; its exit status is its own."""
    job_id, payload = platform.new_job()

    done = await run(environment, payload, code)

    assert done.returncode == exit_status, done.stderr
    assert platform.job(job_id).status == "FAILED"
    assert [message.message for message in platform.messages(job_id)] == FORGOTTEN


@pytest.mark.asyncio(loop_scope="module")
async def test_a_job_that_was_ended_is_left_alone(
    platform: LocalPlatform, environment: dict[str, str]
) -> None:
    """By another request of the same job too, and in another program."""
    job_id, payload = platform.new_job()

    done = await run(
        environment,
        payload,
        "again = Request(None, payload)\nagain.job_init()\nagain.job_end(True)\nrequest = None",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (platform.job(job_id).status, platform.messages(job_id)) == ("COMPLETED", [])


@pytest.mark.asyncio(loop_scope="module")
async def test_an_interrupted_program_ends_its_job(
    platform: LocalPlatform, environment: dict[str, str]
) -> None:
    """Ctrl-C while it waits for the platform or for anything else."""
    job_id, payload = platform.new_job()
    code = BEGIN + "with request:\n    print('ready', flush=True)\n    time.sleep(60)"
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env=environment | {"PAYLOAD": json.dumps(payload)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    await program.stdout.readline()
    program.send_signal(signal.SIGINT)
    await program.communicate()

    assert platform.job(job_id).status == "FAILED"
    assert [message.message for message in platform.messages(job_id)] == [
        "ERROR: The job was broken off: it was interrupted."
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_platform_that_is_away_at_the_end_is_told_to_the_user(
    platform: LocalPlatform, environment: dict[str, str]
) -> None:
    """One line, after seconds and not minutes, since Jupyter does not wait for longer."""
    job_id, payload = platform.new_job()
    code = (
        "from worker.libsafe.errors import PlatformUnreachableError\n"
        "async def away(*_): raise PlatformUnreachableError('The platform is away.')\n"
        "request.driver.client.job = away"
    )

    done = await run(environment, payload, code)

    assert done.returncode == 0
    assert done.stderr == f"Job {job_id} could not be ended and may still be RUNNING: The platform is away.\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_notebook_that_is_closed_ends_its_job_and_its_local_platform(
    platform: LocalPlatform, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells await and block as they like, and nothing of it stays."""
    job_id, payload = platform.new_job()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PAYLOAD", json.dumps(payload))
    cells = [
        BEGIN,
        "from worker.notebook import hash_files, start_local_platform\nlocal = start_local_platform()",
        "with Request(None, local.payload()) as own:\n    table = await hash_files(own, ['crc32c'])",
        "print(len(table))",
        "print(local._platform.s3.pid, local._platform.broker.pid)",
    ]
    v4: Any = nbformat.v4  # without types
    notebook = v4.new_notebook(cells=list(map(v4.new_code_cell, cells)))

    await NotebookClient(notebook, timeout=60).async_execute()

    outputs = [
        output["text"] for cell in notebook.cells for output in cell.outputs if output.get("name") == "stdout"
    ]
    shown = [
        output["data"]["text/plain"] for cell in notebook.cells for output in cell.outputs if "data" in output
    ]
    count, pids = outputs
    assert int(count) == 6
    assert "6 of 6 files" in shown[0]
    assert platform.job(job_id).status == "FAILED"
    assert [message.message for message in platform.messages(job_id)] == FORGOTTEN
    await asyncio.to_thread(wait_for_the_end, pids.split())


def wait_for_the_end(pids: list[str]) -> None:
    """Wait until there are no such processes."""
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.01)
