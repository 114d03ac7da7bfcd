"""`hash-worker flower`: who is let in, and how it begins and ends. What it shows is in the fault suite."""

import asyncio
import os
import shelve
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.conftest import CommandLine
from worker.local.processes import ChildProcess, free_port

PASSWORD = "a-password-that-nobody-may-see"


def variables(port: int) -> dict[str, str]:
    """Give the settings of a Flower whose broker is away."""
    return dict(os.environ) | {
        "HASH_WORKER_BROKER__URL": f"redis://127.0.0.1:{free_port()}/0",
        "HASH_WORKER_FLOWER__PORT": str(port),
        "HASH_WORKER_FLOWER__PASSWORD": PASSWORD,
    }


async def status_of(port: int, path: str, password: str | None) -> int:
    """Ask for a page as the operator, or as nobody; 0 where nobody listens."""
    headers = {} if password is None else {"Authorization": aiohttp.encode_basic_auth("operator", password)}
    url = f"http://127.0.0.1:{port}{path}"
    try:
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
            return answer.status
    except aiohttp.ClientConnectionError:
        return 0


@asynccontextmanager
async def flower(log_path: Path, *options: str) -> AsyncIterator[tuple[ChildProcess, int]]:
    """Run Flower until it answers, and give its port."""
    port = free_port()

    async def answers() -> bool:
        return await status_of(port, "/healthcheck", None) == 200

    process = ChildProcess(
        [sys.executable, "-m", "worker", "flower", *options], env=variables(port), log_path=log_path
    )
    await process.start(answers, timeout_seconds=60)
    try:
        yield process, port
    finally:
        await process.stop()


async def test_only_who_has_the_password_sees_flower(tmp_path: Path) -> None:
    """Its pages and its API, which can end jobs."""
    async with flower(tmp_path / "log") as (_, port):
        answers = [
            await status_of(port, path, password)
            for path in ("/workers", "/api/tasks")
            for password in (None, "another-password", PASSWORD)
        ]

    assert answers == [401, 401, 200] * 2
    assert PASSWORD not in (tmp_path / "log").read_text("utf-8")


async def test_flower_can_be_made_to_show_only(tmp_path: Path) -> None:
    """More options of Flower's own may follow."""
    async with flower(tmp_path / "log", "--read_only=True") as (_, port):
        url = f"http://operator:{PASSWORD}@127.0.0.1:{port}/api/worker/shutdown/a"
        async with aiohttp.ClientSession() as http, http.post(url) as answer:
            status = answer.status

    assert status == 403


async def test_flower_keeps_no_more_tasks_than_its_container_has_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own default takes more memory than the compose file gives it, and would be loaded at each start."""
    monkeypatch.setenv("HASH_WORKER_FLOWER__DATABASE", str(tmp_path / "seen"))

    async with flower(tmp_path / "log"):
        pass

    with shelve.open(str(tmp_path / "seen"), flag="r") as seen:  # noqa: S301 - our own
        assert seen["events"].max_tasks_in_memory == 10_000


async def test_flower_ends_at_once_also_while_its_broker_is_away(tmp_path: Path) -> None:
    """Its threads wait for the broker then."""
    async with flower(tmp_path / "log") as (process, _):
        assert process.pid
        os.kill(process.pid, signal.SIGTERM)

        status = await asyncio.wait_for(process.wait(), 20)

    assert status == 0


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"PASSWORD": ""}, [], "Wrong settings: flower.password: "),
        ({"PASSWORD": None}, [], "Flower needs flower.password: whoever sees it can end jobs; set it."),
        ({}, ["--port=many"], "Wrong option of celery flower: "),
        ({}, ["--nonsense"], "Wrong option of celery flower: it knows no --nonsense."),
        ({}, ["--address=192.0.2.1"], "Flower can't listen at 192.0.2.1, port "),
        ({}, ["--port=65536"], "Wrong option of celery flower: --port is 1 to 65535."),
        ({"HOST": "192.0.2.1"}, [], "Flower can't listen at 192.0.2.1, port "),
    ],
)
def test_a_flower_that_can_not_begin_says_why(
    hash_worker: CommandLine, change: dict[str, str | None], options: list[str], said: str
) -> None:
    """One sentence and status 2."""
    changed = {f"HASH_WORKER_FLOWER__{name}": value for name, value in change.items()}
    env = {name: value for name, value in (variables(free_port()) | changed).items() if value is not None}

    ended = hash_worker("flower", *options, env=env)

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"hash-worker: {said}")
    assert ended.stderr.count("\n") == 1
