"""The planner's memory, measured while it goes through lists of different lengths."""

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest_asyncio
from aiohttp import web
from redis.asyncio import Redis

from worker.bootstrap.runner import open_deliveries
from worker.jobs.batches import PLANNING
from worker.jobs.ledger import Ledger, jobs_named
from worker.jobs.stopping import Stop
from worker.local.api import serve
from worker.local.broker import Broker
from worker.queueing.deliveries import Deliveries
from worker.queueing.fate import Fate
from worker.settings import ApiSettings, BrokerSettings, HashingSettings, Settings


class LongList:
    """A platform whose containers have as many files as their ids say; records are made when asked for."""

    def app(self) -> web.Application:
        """Give the routes that planning takes."""
        app = web.Application()
        app.router.add_route("*", "/api/job/{id}", self._job)
        app.router.add_get("/api/container/{id}/file/list", self._page)
        return app

    async def _job(self, request: web.Request) -> web.Response:
        return _succeeded({"id": request.match_info["id"], "status": "RUNNING"})

    async def _page(self, request: web.Request) -> web.Response:
        container_id = request.match_info["id"]
        first = int(request.query.get("after", "0")) + 1
        end = min(first + int(request.query["limit"]), int(container_id) + 1)
        return _succeeded([_record(container_id, number) for number in range(first, end)])


def _record(container_id: str, number: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "container_id": container_id,
        "filename": f"{number}.tif",
        "fullpath": f"/scans/{number}.tif",
        "size": 1000,
        "type": "FILE",
    }


def _succeeded(result: object) -> web.Response:
    return web.json_response({"success": True, "result": result})


@pytest_asyncio.fixture
async def api_url() -> AsyncIterator[str]:
    """Serve long lists."""
    async with serve(LongList().app()) as url:
        yield url


@pytest_asyncio.fixture
async def deliveries(api_url: str, broker: Broker) -> AsyncIterator[Deliveries]:
    """Open a worker's deliveries with the default sizes of batches."""
    settings = Settings(
        broker=BrokerSettings(url=broker.url),
        api=ApiSettings(allowed_hosts=(urlsplit(api_url).netloc,)),
        hashing=HashingSettings(lanes=1, slots=2, slot_bytes=65536),
    )
    async with open_deliveries(settings) as opened:
        yield opened


async def test_ten_times_as_many_files_are_planned_in_the_same_memory(
    deliveries: Deliveries, api_url: str, redis: Redis
) -> None:
    """What is planned goes to the ledger, and the planner has one page of the list in hand."""
    few = await _planning_peak_bytes(deliveries, api_url, redis, files=3_000)
    many = await _planning_peak_bytes(deliveries, api_url, redis, files=30_000)

    # 27,000 more records would take some 40 MB.
    assert many < 1.5 * few, (few, many)


async def _planning_peak_bytes(deliveries: Deliveries, api_url: str, redis: Redis, *, files: int) -> int:
    """Plan a job over so many files, and tell what this process took, the list's server included."""
    document = {
        "api": {"url": api_url, "key_user": "a-key", "key_root": "a-key"},
        "function_data": {
            "container": {"id": str(files)},
            "user": {"id": "1"},
            "files": {"ids": [], "paths": []},
            "job": {"id": str(files)},
            "trigger": {"id": "0", "type": "", "regex": ""},
            "function": {"id": "0", "key": ""},
        },
        "function_params": {},
    }
    assert (await deliveries.handle(document, "a-tag", Stop(), lambda _: None)).fate is Fate.ACKNOWLEDGED
    (job,) = await jobs_named(redis, str(files))
    planning = {"job": job, "batch": PLANNING}

    tracemalloc.start()
    verdict = await deliveries.handle_batch(planning, "a-tag", Stop(), lambda _: None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    snapshot = await Ledger(redis, job).snapshot()
    assert verdict.fate is Fate.ACKNOWLEDGED
    assert snapshot is not None
    assert (snapshot.files, snapshot.is_planned) == (files, True)
    return peak_bytes
