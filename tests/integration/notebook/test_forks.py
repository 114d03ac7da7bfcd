"""Processes that a notebook forks: they end, leave its job alone, and can make requests of their own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from worker.local.platform import LocalPlatform
from worker.local.worker_config import worker_environment

PROGRAM = """
import asyncio, gc, json, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from worker.notebook import S3, File, Job, NotebookError, Request, hash_files, start_local_platform

fork = multiprocessing.get_context("fork")
payload = json.loads(os.environ["PAYLOAD"])
request = Request(None, payload)
request.job_init()
(file,) = request.Files
stream = S3.File.get_stream(request.Storage, file)

def run(target):
    process = fork.Process(target=target)
    process.start()
    process.join()
    return process.exitcode

def say_verbs():
    for verb in VERBS:
        try:
            verb()
        except NotebookError as error:
            print(error, flush=True)

VERBS = [
    lambda: request.log("x"),
    lambda: list(request.Files),
    lambda: request.job_end(True),
    lambda: File.get(file.id),
    lambda: S3.File.get_stream(request.Storage, file),
    lambda: stream.seek(200_000) and stream.read(),
    lambda: asyncio.run(hash_files(request, "md5")),
]

def read_with_own_request():
    global request, stream
    request = Request(None, payload)
    stream = S3.File.get_stream(request.Storage, File.get(file.id))
    gc.collect()
    print(len(stream.read()), len(asyncio.run(hash_files(request, "md5", report=False))), flush=True)

def begin_own_job():
    Request(None, json.loads(os.environ["OTHER_PAYLOAD"])).job_init()
"""
REFUSED = "This process was forked: make its Request there, or start it by spawn.\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPlatform]:
    """Run one platform outside of the programs, with one file."""
    folder = tmp_path_factory.mktemp("platform")
    (folder / "file.bin").write_bytes(bytes(300_000))
    async with LocalPlatform(folder / "data") as running:
        await running.add_paths([folder / "file.bin"])
        yield running


async def run(platform: LocalPlatform, folder: Path, code: str) -> tuple[list[str], str, str]:
    """Run a program that begins a job and forks; give its output, and how its jobs have ended."""
    (job_id, payload), (other_id, other_payload) = platform.new_job(), platform.new_job()
    variables = {"PAYLOAD": json.dumps(payload), "OTHER_PAYLOAD": json.dumps(other_payload)}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + code],
        env=worker_environment(platform, folder, os.environ) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    statuses = [str(platform.job(each).status) for each in (job_id, other_id)]
    return done.stdout.splitlines(keepends=True), statuses[0], statuses[1]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_forked_process_ends_and_the_job_goes_on(platform: LocalPlatform, tmp_path: Path) -> None:
    """By itself or in a pool; the notebook ends its job as if there had been none."""
    code = (
        "print(run(gc.collect))\n"
        "with ProcessPoolExecutor(2, mp_context=fork) as pool: print(list(pool.map(len, ['a', 'bb'])))\n"
        "print(Job.get(request.job_id).status, len(stream.read()))\n"
        "request.job_end(True)"
    )

    said, status, _ = await run(platform, tmp_path, code)

    assert said == ["0\n", "[1, 2]\n", "RUNNING 300000\n"]
    assert status == "COMPLETED"


@pytest.mark.asyncio(loop_scope="module")
async def test_verbs_of_the_parents_request_are_refused_in_a_forked_process(
    platform: LocalPlatform, tmp_path: Path
) -> None:
    """Each in one sentence: what they would wait for runs in the parent alone."""
    code = "print(run(say_verbs), len(VERBS))\nrequest.job_end(True)"

    said, status, _ = await run(platform, tmp_path, code)

    assert said == [REFUSED] * 7 + ["0 7\n"]
    assert status == "COMPLETED"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_forked_process_works_with_a_request_of_its_own(
    platform: LocalPlatform, tmp_path: Path
) -> None:
    """Its job, forgotten, is FAILED at its end; its parent's connections are as good as before."""
    code = (
        "with request:\n"
        "    print(run(read_with_own_request))\n"
        "    print(run(begin_own_job))\n"
        "    print(len(stream.read()), len(list(request.Files)))\n"
    )

    said, status, other_status = await run(platform, tmp_path, code)

    assert said == ["300000 1\n", "0\n", "0\n", "300000 1\n"]
    assert (status, other_status) == ("COMPLETED", "FAILED")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_process_that_ends_as_a_program_does_leaves_its_parents_platform(
    platform: LocalPlatform, tmp_path: Path
) -> None:
    """Forked by os.fork, it has its parent's functions for its end too."""
    code = (
        "local = start_local_platform()\n"
        "if not (pid := os.fork()): sys.exit(0)\n"
        "print(os.waitpid(pid, 0)[1], os.path.exists(os.environ['HASH_WORKER_CONFIG']))\n"
        "print(len(list(Request(None, local.payload()).Files)))\n"
        "request.job_end(True)"
    )

    said, status, _ = await run(platform, tmp_path, code)

    assert said == ["0 True\n", "6\n"]
    assert status == "COMPLETED"
