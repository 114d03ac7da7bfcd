"""The running jobs API does what its own OpenAPI document says, whatever is sent."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck

from worker.local.api import jobs_api, serve
from worker.local.openapi import document
from worker.local.store import PlatformStore

KEY = "fuzz-user-key"


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Serve a small platform from a thread, since schemathesis blocks its own."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        store = PlatformStore()
        storage_id = store.add_storage("archive", endpoint=None)
        container_id = store.add_container("mine", storage_id)
        store.add_user_key(KEY, [container_id])
        store.add_metadata(store.add_file(container_id, "/a b", size_bytes=1), "title", "A")
        store.add_job(container_id)
        store.add_container("not mine", storage_id)
        async with serve(jobs_api(store)) as url:
            end = asyncio.Event()
            started.set_result((url, asyncio.get_running_loop(), end))
            await end.wait()
        store.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    url, loop, end = started.result(timeout=10)
    yield url
    loop.call_soon_threadsafe(end.set)
    thread.join(timeout=10)


def about_known_records() -> dict[str, Any]:
    """Let well-formed requests name records that exist: random ids hardly ever do."""
    known = document()
    parameters = [
        p for path in known["paths"].values() for way in path.values() for p in way.get("parameters", ())
    ]
    for parameter in parameters:
        if parameter["in"] == "path":
            parameter["schema"] = {"enum": ["a b"] if parameter["name"] == "path" else ["1"]}
    return known


as_published = schemathesis.openapi.from_dict(document())
known_records = schemathesis.openapi.from_dict(about_known_records())
settings = hypothesis.settings(max_examples=20, suppress_health_check=list(HealthCheck))


@as_published.parametrize()
@settings
def test_every_answer_fits_the_document(case: schemathesis.Case[Any], base_url: str) -> None:
    """Status, headers and body are as documented, whatever comes; nothing ends in a 500."""
    case.call_and_validate(base_url=base_url, headers={"Authorization": f"Bearer {KEY}"})


@known_records.parametrize()
@settings
def test_every_answer_about_a_known_record_fits_the_document(
    case: schemathesis.Case[Any], base_url: str
) -> None:
    """The same where the request gets as far as the record: bodies, queries and headers are judged."""
    case.call_and_validate(base_url=base_url, headers={"Authorization": f"Bearer {KEY}"})
