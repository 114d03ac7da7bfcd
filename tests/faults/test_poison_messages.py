"""Messages that come too often, make no sense, or kill whoever takes them."""

import base64
import json
import pickle
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.fault_http import RESET, Answer
from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import KiB, MiB

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_twenty_copies_of_a_message_are_one_run(scenario: Scenario) -> None:
    """They come to two workers at once; the object is read once."""
    scenario.stand.s3.bytes_per_second = MiB
    for _ in range(2):
        await scenario.worker()
    job = await scenario.new_job(4 * MiB)

    scenario.stand.faults["copies of a message"] += 19
    await scenario.enqueue(job, copies=20)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def test_a_copy_that_comes_after_the_end_changes_nothing(scenario: Scenario) -> None:
    """The end is kept for a month."""
    await scenario.worker()
    job = await scenario.run(MiB)
    await scenario.ended()

    scenario.stand.faults["copies of a message"] += 1
    await scenario.enqueue(job)

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def message(body: bytes, *, task: str = "worker.hash_files", content_type: str = "application/json") -> bytes:
    """Write a message as kombu puts it on a list of the broker."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8" if content_type.endswith("json") else "binary",
            "content-type": content_type,
            "headers": {"id": str(uuid.uuid4()), "task": task, "lang": "py"},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": "hashing"},
                "delivery_mode": 2,
                "delivery_tag": str(uuid.uuid4()),
                "priority": 0,
            },
        }
    ).encode()


async def test_messages_without_sense_become_dead_letters_and_the_worker_goes_on(
    scenario: Scenario, tmp_path: Path
) -> None:
    """None is dropped, none is run, and the next job is as if nothing had been."""
    worker = await scenario.worker()
    trap = tmp_path / "unpickled"
    nonsense = {
        "no JSON at all": b"{no json",
        "no message": b'{"a": 1}',
        "bad JSON within": message(b'[["half'),
        "pickle": message(pickle.dumps(_Trap(trap)), content_type="application/x-python-serialize"),
        "unknown task": message(b"[[1], {}, {}]", task="worker.no_such_task"),
        "no payload": message(b"[[], {}, {}]"),
        "empty payload": message(b"[[{}], {}, {}]"),
        "payload of another type": message(b"[[17], {}, {}]"),
    }
    for name, raw in nonsense.items():
        scenario.stand.faults[name] += 1
        await scenario.stand.redis.lpush("hashing", raw)  # type: ignore[misc]  # redis-py types both its clients at once

    await scenario.run(MiB)

    await scenario.judged()
    assert len(await scenario.dead_letters()) == len(nonsense)
    assert not trap.exists()
    assert worker.pid


async def test_a_payload_with_missing_fields_fails_its_job_where_the_platform_can_be_told(
    scenario: Scenario,
) -> None:
    """Its user reads what is missing."""
    await scenario.worker()
    job = await scenario.new_job(0, end="FAILED")
    del job.payload["function_data"]["container"]
    job.payload["function_data"]["files"] = {"ids": [], "paths": []}

    scenario.stand.faults["missing fields"] += 1
    await scenario.enqueue(job)

    await scenario.judged()
    assert any("function_data.container" in text for text in scenario.texts(job))


async def test_a_payload_that_is_too_large_fails_its_job(scenario: Scenario) -> None:
    """Its user reads the limit."""
    await scenario.worker()
    job = await scenario.new_job(0, end="FAILED")
    job.payload["function_data"]["files"]["paths"] = [f"{number:0100}" for number in range(12_000)]

    scenario.stand.faults["payload of 1.2 MB"] += 1
    await scenario.enqueue(job)

    await scenario.judged()
    assert any("1048576 bytes" in text for text in scenario.texts(job))


async def test_a_message_of_ten_megabytes_becomes_a_dead_letter(scenario: Scenario) -> None:
    """It is not even read, so nobody can be told; the worker goes on."""
    worker = await scenario.worker()
    job = await scenario.new_job(0, end=None)
    job.payload["function_data"]["files"]["paths"] = [f"{number:0100}" for number in range(100_000)]

    scenario.stand.faults["message of 10 MB"] += 1
    await scenario.enqueue(job)
    await scenario.run(MiB)

    await scenario.judged()
    assert len(await scenario.dead_letters()) == 1
    assert worker.pid


@pytest.mark.slow
async def test_an_object_that_kills_its_worker_each_time_fails_its_job(scenario: Scenario) -> None:
    """After five workers it is enough: FAILED, a dead letter, and the next worker lives."""
    fast = {"BROKER__VISIBILITY_TIMEOUT_SECONDS": 2, "WORKER__LEASE_SECONDS": 1}
    poison = await scenario.new_job(MiB, end="FAILED")

    async def kill_the_reader(_: web.BaseRequest) -> Answer:
        for worker in scenario.living:
            worker.kill()
        return RESET

    scenario.stand.s3.on(
        "deadly object", lambda request: request.path == poison.files[0].path, kill_the_reader
    )
    async with scenario.supervised(1, fast):
        await scenario.enqueue(poison)
        await scenario.ended(poison)

        await scenario.run(256 * KiB)
        await scenario.judged()
    killed = [worker for worker in scenario.workers if worker.exit_status == -signal.SIGKILL]
    assert 5 <= len(killed) <= 6
    assert len(await scenario.dead_letters()) == 1
