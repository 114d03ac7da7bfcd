"""The running gateway does what its own OpenAPI document says, whatever is sent."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.support.gateway_caller import PLATFORM, TOKEN, calling, gateway_settings, payload_of
from worker.gateway.openapi import document
from worker.local.broker import Broker

JOB_ID = "299"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def base_url(broker: Broker) -> Iterator[str]:
    """Serve from a thread, since schemathesis blocks its own."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        async with calling(gateway_settings(broker.url)) as call:
            await call.hand_in(payload_of(JOB_ID))
            end = asyncio.Event()
            started.set_result((call.url, asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    url, loop, end = started.result(timeout=10)
    yield url
    loop.call_soon_threadsafe(end.set)
    thread.join(timeout=10)


# By model, what has to be so of each field that is looked at; the others stay as they are published.
USABLE: dict[str, dict[str, Any]] = {
    "Api": {
        "url": {"const": PLATFORM},
        "key_user": {"type": "string", "pattern": "^[!-~]{1,40}$"},
        "key_root": {"type": "null"},
    },
    "NeededId": {"id": {"const": JOB_ID}},
    "OptionalId": {"id": {"type": "string", "pattern": "^[a-z0-9]{1,9}$"}},
    "Files": {
        name: {"type": "array", "items": {"type": "string", "pattern": "^/?[a-z0-9]{1,9}$"}}
        for name in ("ids", "paths")
    },
    "Trigger": {"id": {"type": "null"}, "regex": {"type": "string", "pattern": "^[a-z0-9.]{0,9}$"}},
    "Function": {"id": {"type": "null"}},
    "FunctionData": {
        "job": {"$ref": "#/components/schemas/NeededId"},
        "container": {"$ref": "#/components/schemas/OptionalId"},
    },
}


def about_a_known_job() -> dict[str, Any]:
    """Let well-formed requests be about one job of an allowed platform: random ones hardly ever are."""
    known = document()
    for path in known["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = {"enum": [JOB_ID if parameter["name"] == "job_id" else PLATFORM]}
    schemas = known["components"]["schemas"]
    for model, properties in USABLE.items():
        schemas[model]["properties"] |= properties
        schemas[model]["required"] = list(properties)
    return known


as_published = schemathesis.openapi.from_dict(document())
known_job = schemathesis.openapi.from_dict(about_a_known_job())
# Of payloads the schema tells the shape: numbers pass for ids, too, and hosts have to be allowed.
BEYOND_A_SCHEMA: list[CheckFunction] = [negative_data_rejection, positive_data_acceptance]
settings = hypothesis.settings(max_examples=40, suppress_health_check=list(HealthCheck))


@as_published.parametrize()
@settings
def test_every_answer_fits_the_document(case: schemathesis.Case[Any], base_url: str) -> None:
    """Status, headers and body are as documented, whatever comes; nothing ends in a 500."""
    case.call_and_validate(base_url=base_url, headers=HEADERS, excluded_checks=BEYOND_A_SCHEMA)


@known_job.parametrize()
@settings
def test_every_answer_about_a_known_job_fits_the_document(
    case: schemathesis.Case[Any], base_url: str
) -> None:
    """The same where a payload gets as far as the queue, and a request as far as its job."""
    case.call_and_validate(base_url=base_url, headers=HEADERS, excluded_checks=BEYOND_A_SCHEMA)
