"""`hash-worker status` and `cancel`: one job's progress as an operator follows it, and its end."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from worker.jobs.ledger import Ledger
from worker.local.broker import Broker
from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess

HERE = "hash-worker:job:https://go.example.org/job/7"
THERE = "hash-worker:job:https://other.example.org/job/7"
HALF = {"planned": 1, "files": 1000, "bytes": 2000, "done_files": 450, "done_bytes": 1000}


class Terminal:
    """A command that runs on a terminal, and what it has drawn there."""

    def __init__(self, process: "subprocess.Popen[bytes]", screen: int) -> None:
        self.process = process
        self._screen = screen
        self.drawn = ""

    def read_until(self, text: str) -> None:
        """Wait until it has drawn this; the test's own time limit bounds it."""
        while text not in self.drawn:
            self.drawn += os.read(self._screen, 4096).decode()

    def read_to_end(self) -> int:
        """Wait until it has ended, and give its exit status."""
        try:
            while True:
                self.drawn += os.read(self._screen, 4096).decode()
        except OSError:  # nobody writes any more
            return self.process.wait(timeout=60)


@contextmanager
def terminal(*arguments: str, env: dict[str, str]) -> Iterator[Terminal]:
    """Run `hash-worker …` on a terminal."""
    screen, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env={**env, "TERM": "xterm", "COLUMNS": "100"},
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)


async def begin(redis: Redis, *names: str, **fields: str | int) -> None:
    """Have jobs begin, with these fields in their ledgers."""
    for name in names:
        await Ledger(redis, name).begin()
        if fields:
            await redis.hset(f"{name}:ledger", mapping=fields)  # type: ignore[misc]  # redis types it for both its clients


@pytest.fixture
def asked(broker: Broker) -> dict[str, str]:
    """Give the environment of a command that asks the broker."""
    return {**os.environ, "HASH_WORKER_BROKER__URL": broker.url}


@pytest_asyncio.fixture
async def worker(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[ChildProcess]:
    """Prepare one worker process; the test starts it."""
    process = ChildProcess(
        [sys.executable, "-m", "worker", "run"], env=environment, log_path=tmp_path / "worker.log"
    )
    yield process
    await process.stop()


async def test_a_job_is_followed_from_the_queue_to_its_end(
    platform: LocalPlatform,
    worker: ChildProcess,
    hash_worker: Any,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Enqueued twice it is one job; it waits, a worker takes it, and its end is the platform's."""
    (tmp_path / "file.txt").write_bytes(b"abc")
    job_id, payload = platform.new_job(file_ids=await platform.add_path(tmp_path / "file.txt"))

    async def run(*arguments: str, stdin: str = "") -> Any:
        return await asyncio.to_thread(hash_worker, *arguments, env=environment, stdin=stdin)

    first, second = [await run("enqueue", "-", stdin=json.dumps(payload)) for _ in range(2)]
    waiting = await run("status", job_id)
    await worker.start()
    while platform.job(job_id).status not in ENDED:  # noqa: ASYNC110 - another process sets no event of ours
        await asyncio.sleep(0.02)
    ended = json.loads((await run("status", job_id, "--json")).stdout)
    cancelled = await run("cancel", job_id)

    assert (first.returncode, first.stdout) == (0, second.stdout)
    assert (waiting.returncode, waiting.stdout) == (0, f"Job {job_id}: WAITING\n")
    assert (ended["job_id"], ended["task_id"], ended["platform"]) == (
        job_id,
        first.stdout.strip(),
        platform.api_url,
    )
    assert (ended["state"], ended["share"], ended["files"]["hashed"]) == ("COMPLETED", 1.0, 1)
    assert (cancelled.returncode, cancelled.stderr) == (1, f"hash-worker: Job {job_id} has ended already.\n")


async def test_a_job_that_was_cancelled_before_it_began_ends_failed(
    platform: LocalPlatform, worker: ChildProcess, hash_worker: Any, environment: dict[str, str]
) -> None:
    """Its platform is told why, and no file is read."""
    job_id, payload = platform.new_job(file_ids=["1"])
    document = json.dumps(payload)
    await asyncio.to_thread(hash_worker, "enqueue", "-", env=environment, stdin=document)

    told = await asyncio.to_thread(hash_worker, "cancel", job_id, env=environment)
    await worker.start()
    while platform.job(job_id).status not in ENDED:  # noqa: ASYNC110 - another process sets no event of ours
        await asyncio.sleep(0.02)

    assert (told.returncode, told.stdout) == (0, f"Job {job_id} is cancelled; it ends FAILED.\n")
    assert platform.job(job_id).status == "FAILED"
    assert [message.message for message in platform.messages(job_id)][-1].endswith("it was cancelled.")


async def test_on_a_terminal_it_is_drawn_until_it_has_ended(redis: Redis, asked: dict[str, str]) -> None:
    """The exit status is that of the job's end, not of its beginning."""
    await begin(redis, HERE, **HALF)

    with terminal("status", "7", env=asked) as shown:
        await asyncio.to_thread(shown.read_until, "50 %")
        await redis.hset(f"{HERE}:ledger", mapping={"done_files": 999, "not_hashed:access_denied": 3})  # type: ignore[misc]  # as above
        await asyncio.to_thread(shown.read_until, "3 access denied")
        await redis.hset(f"{HERE}:ledger", mapping={"done_files": 1000, "over": "FAILED"})  # type: ignore[misc]  # as above
        status = await asyncio.to_thread(shown.read_to_end)

    assert status == 1
    assert "450 of 1,000" in shown.drawn
    assert "FAILED" in shown.drawn


async def test_ctrl_c_ends_only_the_showing(redis: Redis, asked: dict[str, str]) -> None:
    """Exit status 130, as shells tell it; nobody has cancelled the job."""
    await begin(redis, HERE)

    with terminal("status", "7", env=asked) as shown:
        await asyncio.to_thread(shown.read_until, "RUNNING")
        shown.process.send_signal(signal.SIGINT)
        status = await asyncio.to_thread(shown.read_to_end)

    assert status == 130
    assert "Stopped looking; the job goes on." in shown.drawn
    assert not await Ledger(redis, HERE).cancelled()


async def test_once_it_is_drawn_on_a_terminal_too(redis: Redis, asked: dict[str, str]) -> None:
    """It does not wait for the job's end."""
    await begin(redis, HERE, **HALF)

    with terminal("status", "7", "--once", env=asked) as shown:
        status = await asyncio.to_thread(shown.read_to_end)

    assert status == 0
    assert "450 of 1,000" in shown.drawn


@pytest.mark.parametrize(
    ("fields", "status", "line"),
    [
        ({}, 0, "Job 7: RUNNING\n"),
        ({"planned": 1, "over": "COMPLETED"}, 0, "Job 7: COMPLETED, 100 %, 0 of 0 files, 0.0 MB/s\n"),
        ({"over": "FAILED"}, 1, "Job 7: FAILED\n"),
        ({"over": "LEFT"}, 1, "Job 7: LEFT\n"),
    ],
)
@pytest.mark.parametrize("option", [[], ["--once"], ["--json"]])
async def test_the_exit_status_tells_how_the_job_stands(
    hash_worker: Any,
    redis: Redis,
    asked: dict[str, str],
    option: list[str],
    fields: dict[str, str | int],
    status: int,
    line: str,
) -> None:
    """Into a pipe it is one line or one document, whether or not the job goes on."""
    await begin(redis, HERE, **fields)

    told = await asyncio.to_thread(hash_worker, "status", "7", *option, env=asked)

    assert (told.returncode, told.stderr) == (status, "")
    assert (json.loads(told.stdout)["state"] in line) if option == ["--json"] else (told.stdout == line)


@pytest.mark.parametrize("command", ["status", "cancel"])
async def test_a_job_that_is_not_one_job_is_exit_status_2(
    hash_worker: Any, redis: Redis, asked: dict[str, str], command: str
) -> None:
    """It is said what to do, and with --platform it is done."""
    unknown = await asyncio.to_thread(hash_worker, command, "7", env=asked)
    await begin(redis, HERE, THERE)
    several = await asyncio.to_thread(hash_worker, command, "7", env=asked)
    meant = await asyncio.to_thread(
        hash_worker, command, "7", "--platform", "https://other.example.org/", env=asked
    )

    assert (unknown.returncode, unknown.stdout, several.returncode, several.stdout) == (2, "", 2, "")
    assert unknown.stderr.startswith("hash-worker: No job 7 is known here")
    assert several.stderr == (
        "hash-worker: There is more than one job 7; "
        "give --platform https://go.example.org or https://other.example.org.\n"
    )
    assert (meant.returncode, meant.stderr) == (0, "")
    assert [bool(await Ledger(redis, name).cancelled()) for name in (HERE, THERE)] == [
        False,
        command == "cancel",
    ]


@pytest.mark.parametrize("arguments", [["status", "7"], ["status", "7", "--json"], ["cancel", "7"]])
def test_a_broker_that_is_away_is_one_sentence(hash_worker: Any, arguments: list[str]) -> None:
    """And exit status 1; nothing of the URL is shown."""
    environment = {**os.environ, "HASH_WORKER_BROKER__URL": "redis://:secret@127.0.0.1:1/0"}

    told = hash_worker(*arguments, env=environment)

    assert (told.returncode, told.stdout) == (1, "")
    expected = "The broker can't be asked for the job; `hash-worker check` tells why."
    assert told.stderr == f"hash-worker: {expected}\n"
