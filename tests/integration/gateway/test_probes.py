"""/health/live, /health/ready and /metrics, which need no token."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from tests.support.gateway_caller import Caller, payload_of
from worker.libsafe.names import UNDELIVERED
from worker.queueing.app import BATCH_QUEUE
from worker.queueing.dead_letters import DEAD
from worker.queueing.lease import UNACKED


async def samples(call: Caller) -> dict[tuple[str, ...], float]:
    """Read the metrics: name and labels, by the labels' names, to value."""
    answer = await call("GET", "/metrics", token=None)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_a_gateway_with_its_broker_is_live_and_ready(call: Caller) -> None:
    """Whoever probes has no token."""
    answers = [await call("GET", f"/health/{what}", token=None) for what in ("live", "ready")]

    assert [(answer.status, answer.body) for answer in answers] == [(200, {"is_well": True})] * 2


async def test_requests_are_counted_by_route_method_and_status(call: Caller) -> None:
    """Never by job: what has no route, or a strange method, is counted as one."""
    await call.hand_in(payload_of("299"))
    await call("GET", "/v1/jobs/299")
    await call("GET", "/v1/jobs/300")
    await call("GET", "/v1/jobs/300", token=None)
    for path in ("/a", "/b"):
        await call("PATCH", path)

    counted = await samples(call)

    # Of no other is 0 told: see the last test.
    assert {
        name[1:]: count for name, count in counted.items() if name[0].endswith("requests_total") and count
    } == {
        ("POST", "/v1/jobs", "202"): 1,
        ("GET", "/v1/jobs/{job_id}", "200"): 1,
        ("GET", "/v1/jobs/{job_id}", "404"): 1,
        ("GET", "/v1/jobs/{job_id}", "401"): 1,
        ("other", "other", "404"): 2,
    }
    assert counted["hash_worker_gateway_request_seconds_count", "/v1/jobs/{job_id}"] == 3


async def test_what_waits_in_the_broker_is_counted_when_somebody_asks(call: Caller, redis: Redis) -> None:
    """Both queues, what workers have of them, ends that are on their way, and the dead letters."""
    before = await samples(call)
    await call.hand_in(payload_of("299"))
    await redis.lpush(BATCH_QUEUE, "a", "b")  # type: ignore[misc]  # redis types it for both its clients
    await redis.hset(DEAD, "1", "{}")  # type: ignore[misc]  # as above
    await redis.zadd(UNACKED, {"a": 1, "b": 2, "c": 3})
    await redis.sadd(UNDELIVERED, *"abcd")  # type: ignore[misc]  # as above

    after = await samples(call)

    names = [
        ("hash_worker_broker_up",),
        ("hash_worker_queue_messages", "hashing"),
        ("hash_worker_queue_messages", "hashing.batches"),
        ("hash_worker_dead_letters",),
        ("hash_worker_taken_messages",),
        ("hash_worker_undelivered_ends",),
    ]
    assert [before[name] for name in names] == [1, 0, 0, 0, 0, 0]
    assert [after[name] for name in names] == [1, 1, 2, 1, 3, 4]


async def test_an_end_that_stays_undelivered_grows_old_and_those_that_come_and_go_do_not(
    call: Caller, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each end is undelivered for a moment, so how many there are says nothing."""
    seconds = 0.0
    monkeypatch.setattr("worker.queueing.intake.monotonic", lambda: seconds)
    monkeypatch.setattr("worker.queueing.intake._MOST_ENDS_KNOWN", 2)
    ages = []

    for there in ("", "a", "bcde", "ex", "fgx", "x", ""):
        await redis.delete(UNDELIVERED)
        if there:
            await redis.sadd(UNDELIVERED, *there)  # type: ignore[misc]  # redis types it for both its clients
        ages.append((await samples(call))["hash_worker_undelivered_oldest_seconds",])
        seconds += 10

    assert ages[:3] == [0, 0, 0]
    assert ages[5:] == [20, 0]


async def test_payloads_that_are_not_taken_are_told_before_the_first_one(call: Caller) -> None:
    """A series that begins with its first fault shows no rise, and no alert would see it."""
    counted = await samples(call)

    name = "hash_worker_gateway_requests_total"
    assert [counted[name, "POST", "/v1/jobs", status] for status in ("500", "503")] == [0, 0]
