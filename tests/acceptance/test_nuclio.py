"""The LIBSAFE Go function of the examples: real gateway, real worker, and a stand-in for Nuclio."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from tests.support.gateway_caller import TOKEN
from tests.support.gateway_process import GatewayProcess
from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess

HANDLER = Path(__file__).parents[2] / "examples" / "nuclio_handler.py"


@pytest_asyncio.fixture
async def worker(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[ChildProcess]:
    """Run one worker process."""
    process = ChildProcess(
        [sys.executable, "-m", "worker", "run"], env=environment, log_path=tmp_path / "worker.log"
    )
    await process.start()
    yield process
    await process.stop()


@pytest_asyncio.fixture
async def gateway_url(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[str]:
    """Run one gateway process."""
    process = GatewayProcess(environment, tmp_path / "gateway.log")
    await process.start()
    yield process.url
    await process.child.stop()


def function(gateway_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the function as Nuclio does: from its file, with its environment."""
    monkeypatch.setenv("GATEWAY_URL", gateway_url)
    monkeypatch.setenv("GATEWAY_TOKEN", TOKEN)
    spec = importlib.util.spec_from_file_location("nuclio_handler", HANDLER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


async def call(handler: Any, body: Any) -> Any:
    """Call the function with what its users use of Nuclio's context and event."""
    context = SimpleNamespace(Response=SimpleNamespace)
    return await asyncio.to_thread(handler, context, SimpleNamespace(body=body))


async def test_a_function_hands_its_payload_over_and_the_job_is_done(
    platform: LocalPlatform,
    worker: ChildProcess,
    gateway_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As bytes or as Nuclio decodes them; the second time it is the same job."""
    (tmp_path / "file.txt").write_bytes(b"abc")
    file_ids = await platform.add_path(tmp_path / "file.txt")
    job_id, payload = platform.new_job(file_ids=file_ids)
    handler = function(gateway_url, monkeypatch)

    answers = [await call(handler, body) for body in (json.dumps(payload).encode(), payload)]
    while platform.job(job_id).status not in ENDED:
        assert worker.pid, worker.log_tail()
        await asyncio.sleep(0.02)

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].body == answers[1].body
    assert json.loads(answers[0].body)["job_id"] == job_id
    assert platform.job(job_id).status == "COMPLETED"
    assert platform.hashes(file_ids[0])["md5"] == "900150983cd24fb0d6963f7d28e17f72"


async def test_a_function_tells_why_its_payload_was_refused(
    gateway_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the gateway's status and words, so that they stand in the function's log."""
    answer = await call(function(gateway_url, monkeypatch), b'{"function_data": {}}')

    assert (answer.status_code, answer.content_type) == (400, "application/json")
    assert [fault["where"] for fault in json.loads(answer.body)["faults"]] == ["api", "function_data.job"]
