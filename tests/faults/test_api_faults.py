"""The platform's jobs API is down, slow, refuses, or lies about what it has done."""

import asyncio
import json
import time

import pytest
from aiohttp import web

from tests.support.fault_http import RESET, Answer, HttpProxy
from tests.support.fault_scenario import Scenario, until
from tests.support.fault_stand import KiB, MiB

pytestmark = pytest.mark.asyncio(loop_scope="session")

_REFUSED = Answer(401, {"Content-Type": "application/json"}, b'{"success":false,"result":null,"msg":"No."}')


def is_write(request: web.BaseRequest) -> bool:
    """Tell reports from questions."""
    return request.method != "GET"


@pytest.mark.slow
async def test_hashing_goes_on_while_the_platform_is_down_and_all_reports_come_in_order(
    scenario: Scenario, minutes: float
) -> None:
    """They wait in the outbox, the end last; the platform is told when it is back."""
    outage_seconds = 600 if minutes >= 15 else 60
    scenario.stand.s3.bytes_per_second = MiB
    await scenario.worker()
    job = await scenario.run(8 * MiB, 8 * MiB, 2 * MiB)
    await scenario.in_mid_object(job, 2 * MiB)
    back_at = time.monotonic() + outage_seconds

    await scenario.stand.api.refuse()
    await until(lambda: scenario.bytes_read(job) >= job.size_bytes, "the reading of all files")
    await asyncio.sleep(back_at - time.monotonic())
    await scenario.stand.api.accept()

    await scenario.judged()
    texts = scenario.texts(job)
    assert len(texts) >= 3 * 4 + 1
    assert texts[-1].startswith("Hashed 3 files")


async def test_files_that_nobody_could_ask_the_platform_about_are_not_given_up(scenario: Scenario) -> None:
    """An outage in the middle of a job of many files fails none of them."""
    scenario.stand.s3.bytes_per_second = 256 * KiB
    await scenario.worker({"WORKER__FILES_AT_ONCE": 2})
    job = await scenario.run(*[MiB] * 10)
    await scenario.in_mid_object(job)

    await scenario.stand.api.refuse()
    await asyncio.sleep(10)
    await scenario.stand.api.accept()

    await scenario.judged()


async def test_a_write_that_was_applied_and_answered_by_an_error_shows_once(scenario: Scenario) -> None:
    """It is sent again under its idempotency key."""
    scenario.stand.api.on(
        "500 after the write",
        lambda request: is_write(request) and scenario.random.random() < 0.4,
        Answer(500, is_applied=True),
        times=30,
    )
    await scenario.worker()

    for size in (0, 1, MiB):
        await scenario.run(size, size)

    await scenario.judged()


async def test_a_write_that_was_applied_and_never_answered_shows_once(scenario: Scenario) -> None:
    """The time limit of the request is over, and nobody knows whether it was applied."""
    scenario.stand.api.on(
        "no answer after the write",
        lambda request: is_write(request) and scenario.random.random() < 0.3,
        Answer(200, is_applied=True, delay_seconds=10),
        times=6,
    )
    await scenario.worker({"API__TIMEOUT_SECONDS": 0.5})

    for size in (0, 1, MiB):
        await scenario.run(size, size)

    await scenario.judged()


async def test_connections_to_the_platform_that_break_before_and_after_a_write_cost_nothing(
    scenario: Scenario,
) -> None:
    """Neither loses a report nor doubles one."""
    for name, action in (("reset before", RESET), ("reset after", Answer(None, is_applied=True))):
        scenario.stand.api.on(
            f"{name} the write", lambda request: scenario.random.random() < 0.15, action, times=15
        )
    await scenario.worker()

    for size in (0, 1, MiB):
        await scenario.run(size, size)

    await scenario.judged()


async def test_a_key_that_is_refused_in_mid_job_stops_it_and_the_job_can_be_requeued(
    scenario: Scenario,
) -> None:
    """It is asked no more than a few times; the dead letter waits until the key works again."""
    scenario.stand.s3.bytes_per_second = MiB
    worker = await scenario.worker()
    job = await scenario.run(2 * MiB, 96 * MiB)
    await scenario.in_mid_object(job)

    api = scenario.stand.api
    api.on("401", lambda _: True, _REFUSED)
    letter_id = await the_dead_letter(scenario)
    refused_requests = scenario.stand.faults["401"]

    assert scenario.bytes_read(job) < job.size_bytes
    assert refused_requests <= 10
    api.heal()
    told = await scenario.command("dead", "requeue", letter_id)
    assert told.returncode == 0, told.stderr
    await scenario.judged()
    assert worker.pid


async def the_dead_letter(scenario: Scenario) -> str:
    """Wait for the one dead letter and give its id."""
    for _ in range(600):
        if letters := await scenario.dead_letters():
            (letter_id,) = letters
            return letter_id
        await asyncio.sleep(0.1)
    raise AssertionError("there is no dead letter")


async def test_a_platform_that_asks_to_wait_is_given_time(scenario: Scenario) -> None:
    """429 with Retry-After fails nothing."""
    scenario.stand.api.on(
        "429", lambda _: scenario.random.random() < 0.2, Answer(429, {"Retry-After": "1"}), 8
    )
    await scenario.worker()

    for size in (0, 1, MiB):
        await scenario.run(size)

    await scenario.judged()


async def test_many_small_jobs_end_on_a_slow_platform(scenario: Scenario) -> None:
    """Each request takes more than a second, and no job is run twice for it."""
    scenario.stand.faults["slow platform"] += 1
    scenario.stand.api.delay_seconds = 1.2
    await scenario.worker({"WORKER__JOBS_AT_ONCE": 16})

    jobs = [await scenario.run(size) for size in range(16)]

    await scenario.judged()
    assert sum(map(scenario.bytes_read, jobs)) == sum(job.size_bytes for job in jobs)


async def test_what_a_killed_worker_had_not_sent_is_delivered_by_another(scenario: Scenario) -> None:
    """The job's end was in the outbox and the platform away; any worker finds it there."""
    scenario.stand.s3.bytes_per_second = MiB
    first = await scenario.worker()
    job = await scenario.run(4 * MiB)
    await scenario.in_mid_object(job)
    await scenario.stand.api.refuse()
    await wait_for_the_end_in_the_outbox(scenario)

    first.kill()
    await first.wait()
    await scenario.stand.api.accept()
    await scenario.worker()

    await scenario.judged()
    assert scenario.bytes_read(job) == job.size_bytes


async def wait_for_the_end_in_the_outbox(scenario: Scenario) -> None:
    """Wait until the job's end is safe, though nobody was told."""
    for _ in range(600):
        if await scenario.stand.redis.keys("hash-worker:job:*:end"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("no end is in the outbox")


async def test_a_redirect_takes_the_key_nowhere(scenario: Scenario) -> None:
    """The file whose record can't be fetched without following it fails."""
    async with HttpProxy(scenario.platform.api_url) as thief:
        scenario.stand.api.on(
            "redirect",
            lambda request: request.path.startswith("/api/file/"),
            Answer(307, {"Location": f"{thief.url}/api/file/1"}, json.dumps({}).encode()),
        )
        await scenario.worker()
        await scenario.run(MiB, end="FAILED")

        await scenario.judged()

        assert not thief.requests
