"""`hash-worker gateway` as a service: how it begins, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from worker.local.broker import Broker

TOKEN = "a-token-for-tests-only"


@pytest.fixture
def environment(broker: Broker) -> dict[str, str]:
    """Give the environment of a gateway on any free port."""
    return {
        **os.environ,
        "HASH_WORKER_BROKER__URL": broker.url,
        "HASH_WORKER_GATEWAY__PORT": "0",
        "HASH_WORKER_GATEWAY__TOKEN": TOKEN,
        "HASH_WORKER_API__ALLOWED_HOSTS": '["go.example.org"]',
    }


@pytest.fixture
def gateway(environment: dict[str, str], tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a gateway."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "gateway"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_it_takes_a_payload_and_ends_when_it_is_told_to(
    gateway: "subprocess.Popen[str]",
    hash_worker: Any,
    environment: dict[str, str],
    redis: Any,
    stop: signal.Signals,
) -> None:
    """Exit status 0, as the worker's; the token is neither printed nor logged, and `status` knows the job."""
    payload = {
        "api": {"url": "https://go.example.org", "key_user": "a-key", "key_root": "another"},
        "function_data": {"job": {"id": "7"}, "container": {"id": "1"}, "files": {"ids": ["1"]}},
    }
    assert gateway.stdout is not None
    url = (await asyncio.to_thread(gateway.stdout.readline)).split()[-1]

    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(url, headers=headers) as caller:
        async with caller.post("/v1/jobs", json=payload) as answer:
            accepted = (answer.status, (await answer.json())["job_id"])
        async with caller.get("/v1/jobs/7") as answer:
            document = await answer.json()
    told = await asyncio.to_thread(hash_worker, "status", "7", "--json", env=environment)
    gateway.send_signal(stop)
    printed, logged = await asyncio.to_thread(gateway.communicate, timeout=60)

    assert accepted == (202, "7")
    assert json.loads(told.stdout) == document
    assert gateway.returncode == 0
    assert TOKEN not in printed + logged
    assert "Traceback" not in logged


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("HASH_WORKER_GATEWAY__HOST", "0.0.0.0", "gateway.token"),  # noqa: S104 - it must not listen there
        ("HASH_WORKER_GATEWAY__PORT", "{taken}", "gateway.port"),
        ("HASH_WORKER_GATEWAY__PORT", "70000", "gateway.port"),
    ],
)
def test_what_it_can_not_begin_with_is_a_sentence(
    hash_worker: Any, environment: dict[str, str], variable: str, value: str, told: str
) -> None:
    """Exit status 2, and the setting is named."""
    del environment["HASH_WORKER_GATEWAY__TOKEN"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = hash_worker("gateway", env={**environment, variable: value.format(taken=port)})

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
