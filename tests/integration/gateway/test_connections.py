"""Connections to the gateway: strange, slow and many ones, and where it listens."""

import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest
import structlog.testing

from tests.support.gateway_caller import KEY, TOKEN, Caller, calling, gateway_settings, payload_of
from worker.gateway import gateway, run_gateway, server
from worker.gateway.server import open_gateway
from worker.local.broker import Broker
from worker.queueing.intake import Intake
from worker.settings import SettingsError

HEAD = f"POST /v1/jobs HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {TOKEN}\r\n"


async def say(call: Caller, text: str) -> str:
    """Send bytes of any kind and read until the gateway closes the connection."""
    port = int(call.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "text",
    [
        f"GET /v1/jobs/1 HTTP/1.1\r\nBroken header {TOKEN}\r\n\r\n",
        f"GET /{TOKEN} HTTP/9.9\r\n\r\n",
        f"{HEAD}X: {'x' * 10_000}\r\n\r\n",
        f"\x16\x03\x01 {TOKEN}\r\n\r\n",
    ],
    ids=["no header", "no version", "a header of 10 kB", "TLS"],
)
async def test_what_is_no_http_is_told_so_and_nothing_of_it_is_repeated(
    call: Caller, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400 as JSON; neither the answer nor a log line shows what came, nor what runs here."""
    answer = await say(call, text)

    head, _, body = answer.partition("\r\n\r\n")
    assert head.split()[1] == "400"
    assert json.loads(body) == {"error": "This is no request that can be read."}
    assert TOKEN not in answer + caplog.text
    assert "aiohttp" not in answer
    assert "Python" not in answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/jobs/1/2", 404),
        ("GET", "/v1/jobs/", 404),
        ("GET", "/v1/jobs", 405),
        ("PUT", "/v1/jobs/1", 405),
        ("POST", "/metrics", 405),
        ("PATCH", "/v1/jobs", 405),
    ],
)
async def test_what_is_no_route_is_refused_in_json_and_without_a_banner(
    call: Caller, method: str, path: str, status: int
) -> None:
    """404, or 405 with the methods that there are."""
    answer = await call(method, path)

    assert answer.status == status
    assert list(answer.body) == ["error"]
    assert ("Allow" in answer.headers) == (status == 405)
    assert "Server" not in answer.headers


async def test_no_answer_tells_what_runs_here(call: Caller) -> None:
    """Whoever looks for a version with a known hole has to try."""
    answers = [
        await call.hand_in(payload_of("1")),
        await call("GET", "/v1/jobs/1", token=None),
        await call("GET", "/health/live"),
        await call("GET", "/metrics"),
    ]

    assert [answer.status for answer in answers] == [202, 401, 200, 200]
    assert not any("Server" in answer.headers for answer in answers)


@pytest.mark.parametrize("rest", ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    """408, and the connection is closed: what would follow is no request."""
    monkeypatch.setattr(gateway, "_BODY_SECONDS", 0.1)
    monkeypatch.setattr(server, "_LINGER_SECONDS", 0.1)
    async with calling(gateway_settings(broker.url)) as call:
        answer = await say(call, HEAD + rest)

    assert answer.startswith("HTTP/1.1 408 ")


async def test_a_body_that_breaks_off_leaves_nothing_behind(call: Caller) -> None:
    """The next request is served."""
    port = int(call.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{HEAD}Content-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await call.hand_in(payload_of("1"))).status == 202


async def test_a_broken_chunk_is_told_as_a_body_that_can_not_be_read(call: Caller) -> None:
    """400."""
    answer = await say(call, f"{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")

    assert answer.split()[1] == "400"


@pytest.mark.parametrize("begun", ["", "GET /health/li", "GET /health/live HTTP/1.1\r\nHost: a\r\n"])
async def test_a_connection_on_which_no_request_comes_is_closed(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    """It holds a place that another one needs."""
    monkeypatch.setattr(server, "_IDLE_SECONDS", 0.1)
    async with calling(gateway_settings(broker.url)) as call:
        assert await say(call, begun) == ""


async def test_of_very_many_connections_the_last_ones_are_closed(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are there are served on."""
    monkeypatch.setattr(server._Connection, "most", 1)
    async with calling(gateway_settings(broker.url)) as call:
        first = await call("GET", "/health/live")
        second = await say(call, "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        third = await call("GET", "/health/live")

    assert (first.status, second, third.status) == (200, "", 200)


async def test_payloads_above_the_most_wait_for_a_place_and_then_are_sent_away(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After; memory for bodies is bounded."""
    monkeypatch.setattr(gateway, "_WAIT_SECONDS", 0.1)
    port = int(call.url.rpartition(":")[2])
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    for _, writer in slow:
        writer.write(f"{HEAD}Content-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode())
    for reader, _ in slow:
        await reader.readuntil(b"\r\n\r\n")  # now its request is in hand

    answer = await call.hand_in(payload_of("1"))
    for _, writer in slow:
        writer.close()
    later = await call.hand_in(payload_of("1"))

    assert (answer.status, later.status) == (503, 202)
    assert "too many payloads" in answer.body["error"]


async def test_a_bug_is_answered_without_its_trace_and_logged_without_its_text(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500; an error's text may quote a payload."""

    def broken(*_: object) -> None:
        raise ValueError(KEY)

    monkeypatch.setattr(gateway, "check_host", broken)
    with structlog.testing.capture_logs() as lines:
        answer = await call.hand_in(payload_of("1"))

    assert (answer.status, answer.body) == (500, {"error": "The gateway has a bug: see its log."})
    assert [line["event"] for line in lines] == ["A request met a bug", "A request was answered"]
    assert "in _read" in lines[0]["trace"]
    assert KEY not in str(lines)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.0.2.1", "gateway.example.org", "127.0.0.1.example.org"],  # noqa: S104  # refused
)
async def test_without_a_token_it_listens_to_this_machine_alone(broker: Broker, host: str) -> None:
    """Otherwise whoever finds it could have jobs run."""
    with pytest.raises(SettingsError, match=r"needs gateway\.token to listen at"):
        await run_gateway(gateway_settings(broker.url, host=host, token=None), print)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
async def test_on_this_machine_it_needs_no_token(broker: Broker, host: str) -> None:
    """For trying it out; then nobody is asked for one."""
    async with calling(gateway_settings(broker.url, host=host, token=None)) as call:
        answer = await call("GET", "/v1/jobs/nobodys", token=None)

    assert answer.status == 404


async def test_with_a_token_it_listens_wherever_it_is_told(broker: Broker) -> None:
    """In a container that is every address."""
    async with calling(gateway_settings(broker.url, host="0.0.0.0")) as call:  # noqa: S104  # for the test
        assert call.url.startswith("http://0.0.0.0:")


async def test_a_port_that_is_taken_is_told_in_one_sentence(broker: Broker) -> None:
    """It names host, port and setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"can't listen at 127.0.0.1, port {port}: another program"):
            await run_gateway(gateway_settings(broker.url, port=port), print)


async def test_an_address_that_is_not_this_machines_is_told_in_one_sentence(broker: Broker) -> None:
    """It names host and setting."""
    with pytest.raises(SettingsError, match=r"can't listen at 192\.0\.2\.1, port 0: .*set gateway\.host"):
        await run_gateway(gateway_settings(broker.url, host="192.0.2.1"), print)


async def test_a_request_that_is_under_way_at_the_end_is_answered(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its payload may be on the queue."""
    is_accepting = asyncio.Event()
    accept = Intake.accept

    async def announced(*arguments: Any) -> str:
        is_accepting.set()
        return await accept(*arguments)

    monkeypatch.setattr(Intake, "accept", announced)
    async with aiohttp.ClientSession() as http:
        async with open_gateway(gateway_settings(broker.url)) as url:
            caller = Caller(http, url)
            handing_in = asyncio.create_task(caller.hand_in(payload_of("1")))
            await is_accepting.wait()

        assert (await handing_in).status == 202


async def test_it_tells_where_it_is_as_soon_as_it_answers_and_serves_until_cancelled(broker: Broker) -> None:
    """For those who start it with port 0."""
    told: asyncio.Queue[str] = asyncio.Queue()

    serving = asyncio.create_task(run_gateway(gateway_settings(broker.url), told.put_nowait))
    port = int((await told.get()).rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    serving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
