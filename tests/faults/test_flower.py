"""Flower beside a worker: what its pages show, and its button."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import KiB, MiB
from worker.local.processes import ChildProcess, free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = ("/workers", "/tasks", "/broker", "/api/workers?refresh=1", "/api/tasks", "/metrics")
USER, PASSWORD = "operator", "flower-password-of-the-fault-suite"


@asynccontextmanager
async def flower_beside(scenario: Scenario) -> AsyncIterator[aiohttp.ClientSession]:
    """Run Flower for the scenario's broker, and open its pages."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
    async with aiohttp.ClientSession(url, headers=headers) as pages:

        async def answers() -> bool:
            try:
                async with pages.get("/healthcheck") as answer:
                    return answer.ok
            except aiohttp.ClientError:
                return False

        flower = ChildProcess(
            [sys.executable, "-m", "worker", "flower"],
            env=scenario.stand.variables(
                {
                    "FLOWER__PORT": str(port),
                    "FLOWER__USER": USER,
                    "FLOWER__PASSWORD": PASSWORD,
                }
            ),
            log_path=scenario.stand.directory / "flower.log",
        )
        await flower.start(answers, timeout_seconds=60)
        try:
            yield pages
        finally:
            scenario.note("the log of Flower", flower.log_tail(1000))
            await flower.stop()


async def test_flowers_pages_show_no_key_and_its_button_ends_a_job_failed(scenario: Scenario) -> None:
    """The task is there by its name, its state is right, and what it was called with is nowhere."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    await scenario.worker()
    async with flower_beside(scenario) as pages:
        job = await scenario.new_job(16 * MiB, end="FAILED")
        task_id = await scenario.enqueue(job)
        await scenario.in_mid_object(job, 256 * KiB)
        while "PROGRESS" not in (running := await text_of(pages, f"/api/task/info/{task_id}")):  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.1)
        shown = [running, await text_of(pages, f"/task/{task_id}")]

        scenario.stand.faults["task revoked"] += 1
        async with pages.post(f"/api/task/revoke/{task_id}", params={"terminate": "true"}) as answer:
            assert answer.ok, await answer.text()
        await scenario.ended()
        while "REVOKED" not in await text_of(pages, f"/api/task/info/{task_id}"):  # noqa: ASYNC110 - another process's event
            await asyncio.sleep(0.1)
        last = [*PAGES, f"/task/{task_id}", f"/api/task/info/{task_id}"]
        shown += [await text_of(pages, page) for page in last]

        scenario.note("pages of Flower", "\n".join(shown))
        assert "worker.hash_files" in running
        assert " % done: 0 of 1 file, " in running
        assert all(f"job {job.job_id}: 1 file or folder" in shown[place] for place in (1, -2))
    await scenario.judged()


async def text_of(pages: aiohttp.ClientSession, page: str) -> str:
    """Read a page; what a task does takes a moment to be known."""
    for _ in range(100):
        async with pages.get(page) as answer:
            text = await answer.text()
            if answer.ok:
                return text
        await asyncio.sleep(0.1)
    raise AssertionError(f"{page} is not there: {text[:500]}")
