"""What callers are told while the broker is away, frozen or full, and that nothing is lost by it."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import structlog.testing
from redis.asyncio import Redis

from tests.support.fault_tcp import TcpProxy
from tests.support.gateway_caller import Answered, Caller, calling, gateway_settings, payload_of
from worker.local.broker import Broker
from worker.queueing.app import QUEUE


@pytest_asyncio.fixture
async def way(broker: Broker) -> AsyncIterator[TcpProxy]:
    """Run a way to the broker that can be closed."""
    async with TcpProxy(urlsplit(broker.url).port or 0) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def call(broker: Broker, redis: Redis, way: TcpProxy) -> AsyncIterator[Caller]:
    """Serve by that way, on an empty database."""
    url = broker.url.replace(f":{urlsplit(broker.url).port}/", f":{way.port}/")
    async with calling(gateway_settings(url)) as caller:
        yield caller


async def ask_everything(call: Caller) -> list[Answered]:
    """Send one request to each route that needs the broker."""
    return [
        await call.hand_in(payload_of("1")),
        await call("GET", "/v1/jobs/1"),
        await call("DELETE", "/v1/jobs/1"),
        await call("GET", "/health/ready"),
    ]


@pytest.mark.parametrize("fault", ["refuse", "freeze"])
async def test_without_a_broker_callers_are_told_to_come_again(
    call: Caller, way: TcpProxy, broker: Broker, fault: str
) -> None:
    """503 with Retry-After within seconds, whether nothing listens there or nothing answers."""
    await call("GET", "/health/ready")
    if inspect.isawaitable(done := getattr(way, fault)()):
        await done

    answers = await ask_everything(call)

    assert [answer.status for answer in answers] == [503] * 4
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert {answer.body["error"] for answer in answers} == {
        "The broker is away or full; send the request again, it is done only once."
    }
    assert not any(broker.url.split("@")[0] in answer.text for answer in answers)


async def test_a_gateway_that_starts_without_a_broker_serves_as_soon_as_it_is_there(
    tmp_path: Path,
) -> None:
    """Whichever is started first."""
    broker = Broker(tmp_path / "broker")
    async with calling(gateway_settings(broker.url)) as call:
        without = await ask_everything(call)
        await broker.start()
        with_it = await ask_everything(call)
        await broker.stop()
        await broker.start()
        again = await call.hand_in(payload_of("1"))
        await broker.stop()

    assert [answer.status for answer in without] == [503] * 4
    assert [answer.status for answer in with_it] == [202, 200, 202, 200]
    assert again.body == with_it[0].body


async def test_a_payload_whose_answer_was_lost_is_put_on_the_queue_once(
    call: Caller, way: TcpProxy, redis: Redis
) -> None:
    """The write may have been done behind the 503: whoever repeats gets its answer."""
    await call("GET", "/health/ready")
    way.flow.delay_seconds = 1
    handing_in = asyncio.create_task(call.hand_in(payload_of("299")))
    while not await length_of(redis):  # noqa: ASYNC110 - another process sets no event of ours
        await asyncio.sleep(0.01)
    way.reset()
    lost = await handing_in
    way.flow.delay_seconds = 0

    answers = [await call.hand_in(payload_of("299")) for _ in range(2)]

    assert lost.status == 503
    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].text == answers[1].text
    assert await length_of(redis) == 1


async def length_of(broker: Redis) -> int:
    """Count the messages that wait."""
    return int(await broker.llen(QUEUE))  # type: ignore[misc]  # redis types it for both its clients


async def test_a_full_broker_takes_nothing_and_keeps_nothing_of_it(call: Caller, redis: Redis) -> None:
    """503; when there is room again the payload is accepted as if it were the first time."""
    await redis.config_set("maxmemory", 1)
    try:
        refused = await call.hand_in(payload_of("299"))
    finally:
        await redis.config_set("maxmemory", 0)

    accepted = await call.hand_in(payload_of("299"))

    assert (refused.status, accepted.status) == (503, 202)
    assert await length_of(redis) == 1


async def test_a_live_gateway_says_so_and_gives_metrics_also_without_a_broker(
    call: Caller, way: TcpProxy
) -> None:
    """It must not be restarted because the broker is away; what can't be asked is no number."""
    await way.refuse()

    live = await call("GET", "/health/live", token=None)
    metrics = await call("GET", "/metrics", token=None)

    assert (live.status, metrics.status) == (200, 200)
    assert "hash_worker_broker_up 0.0\n" in metrics.text
    assert 'hash_worker_queue_messages{queue="hashing"} NaN\n' in metrics.text


async def test_a_broker_that_goes_and_comes_is_logged_once_each(call: Caller, way: TcpProxy) -> None:
    """Not for each request meanwhile; its password is in no line."""
    with structlog.testing.capture_logs() as lines:
        await way.refuse()
        await ask_everything(call)
        await way.accept()
        await call("GET", "/health/ready")
        await call("GET", "/health/ready")

    events = [line["event"] for line in lines if "method" not in line]
    assert events == ["The broker does not answer", "The broker is back"]
