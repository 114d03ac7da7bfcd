"""`hash-worker gateway`: the process, with a real platform and a real worker."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.gateway_caller import TOKEN, Caller
from tests.support.gateway_process import GatewayProcess
from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess


@pytest_asyncio.fixture
async def gateway(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """Run one gateway process."""
    process = GatewayProcess(environment, tmp_path / "gateway.log")
    await process.start()
    yield process
    await process.child.stop()


@pytest_asyncio.fixture
async def call(gateway: GatewayProcess) -> AsyncIterator[Caller]:
    """Call it."""
    async with aiohttp.ClientSession() as http:
        yield Caller(http, gateway.url)


@pytest_asyncio.fixture
async def worker(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[ChildProcess]:
    """Make a worker process, for the test to start."""
    process = ChildProcess(
        [sys.executable, "-m", "worker", "run"], env=environment, log_path=tmp_path / "worker.log"
    )
    yield process
    await process.stop()


async def end_of(job_id: str, call: Caller, platform: LocalPlatform, worker: ChildProcess) -> Any:
    """Wait until a job has ended on its platform, and ask the gateway."""
    while platform.job(job_id).status not in ENDED:
        assert worker.pid, worker.log_tail()
        await asyncio.sleep(0.02)
    # The broker knows a moment later that the platform was told.
    while (body := (await call("GET", f"/v1/jobs/{job_id}")).body)["state"] not in ENDED:  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(0.02)
    return body


async def test_a_payload_handed_in_is_hashed_and_its_progress_told(
    platform: LocalPlatform, gateway: GatewayProcess, call: Caller, worker: ChildProcess, tmp_path: Path
) -> None:
    """From WAITING to COMPLETED; no key and no password in the gateway's log or answers."""
    (tmp_path / "file.txt").write_bytes(b"abc")
    file_ids = await platform.add_path(tmp_path / "file.txt")
    job_id, payload = platform.new_job(file_ids=file_ids)

    accepted = await call.hand_in(payload)
    waiting = (await call("GET", accepted.headers["Location"])).body
    await worker.start()
    ended = await end_of(job_id, call, platform, worker)

    assert (accepted.status, waiting["state"], ended["state"]) == (202, "WAITING", "COMPLETED")
    assert ended["task_id"] == accepted.body["task_id"]
    assert (ended["files"]["hashed"], ended["bytes"], ended["share"]) == (1, {"total": 3, "done": 3}, 1)
    assert platform.hashes(file_ids[0])["md5"] == "900150983cd24fb0d6963f7d28e17f72"
    await gateway.child.stop()
    secrets = (*payload["api"].values(), TOKEN, platform.broker_url.split("@")[0])[1:]
    assert f'"job_id": "{job_id}"' in gateway.log()
    assert not any(secret in gateway.log() + accepted.text + json.dumps(ended) for secret in secrets)


async def test_a_job_that_is_cancelled_while_it_waits_ends_failed(
    platform: LocalPlatform, call: Caller, worker: ChildProcess
) -> None:
    """The worker that takes it tells the platform so; then it can't be cancelled any more."""
    job_id, payload = platform.new_job(file_ids=["1"])
    await call.hand_in(payload)

    cancelled = await call("DELETE", f"/v1/jobs/{job_id}")
    await worker.start()
    ended = await end_of(job_id, call, platform, worker)

    assert (cancelled.status, ended["state"]) == (202, "FAILED")
    assert platform.job(job_id).status == "FAILED"
    assert "it was cancelled." in platform.messages(job_id)[-1].message
    assert (await call("DELETE", f"/v1/jobs/{job_id}")).status == 409


async def test_what_a_gateway_has_accepted_outlives_it(
    platform: LocalPlatform,
    gateway: GatewayProcess,
    call: Caller,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Killed, and another one in its place: it knows the job, and the same payload gets the same answer."""
    _, payload = platform.new_job(file_ids=["1"])
    accepted = await call.hand_in(payload)
    assert gateway.child.pid
    os.kill(gateway.child.pid, signal.SIGKILL)
    await gateway.child.wait()
    other = GatewayProcess(environment, tmp_path / "other.log")
    await other.start()

    async with aiohttp.ClientSession() as http:
        again = await Caller(http, other.url).hand_in(payload)
        found = await Caller(http, other.url)("GET", accepted.headers["Location"])
    await other.child.stop()

    assert (again.status, again.text) == (202, accepted.text)
    assert found.body["state"] == "WAITING"


async def test_a_gateway_that_is_told_to_end_does_so(gateway: GatewayProcess) -> None:
    """SIGTERM; exit status 0, for whoever manages it as a service."""
    await gateway.child.stop()

    assert gateway.child.exit_status == 0
    assert "Traceback" not in gateway.log()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"HOST": "0.0.0.0"}, "The gateway needs gateway.token to listen at 0.0.0.0"),  # noqa: S104  # refused
        ({"PORT": "{taken}"}, "The gateway can't listen at 127.0.0.1, port {taken}: another program does"),
    ],
)
async def test_a_gateway_that_can_not_serve_says_why(
    hash_worker: Any, environment: dict[str, str], settings: dict[str, str], told: str
) -> None:
    """Exit status 2 and one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        variables = {
            f"HASH_WORKER_GATEWAY__{name}": value.format(taken=taken) for name, value in settings.items()
        }
        done = await asyncio.to_thread(hash_worker, "gateway", env=environment | variables)

    assert (done.returncode, done.stdout) == (2, "")
    assert told.format(taken=taken) in done.stderr
    assert "Traceback" not in done.stderr
