"""The health server: what it answers, and to whom."""

import asyncio

import aiohttp
import pytest

from worker.health import serve_health


async def answers_of(port: int, *paths: str) -> list[tuple[int, str]]:
    """Ask for each path."""
    found = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        for path in paths:
            async with http.get(path) as answer:
                found.append((answer.status, await answer.text()))
    return found


async def test_a_worker_that_is_well_says_so_and_gives_its_metrics() -> None:
    """As Docker and Prometheus ask."""
    async with serve_health(
        "127.0.0.1", 0, why_not_live=lambda: None, why_not_ready=lambda: None, metrics=lambda: b"up 1\n"
    ) as port:
        live, ready, metrics = await answers_of(port, "/health/live", "/health/ready", "/metrics")

    assert live == ready == (200, '{"is_well": true}')
    assert metrics == (200, "up 1\n")


async def test_a_worker_that_is_not_well_says_why() -> None:
    """With a status that a health check takes for no."""
    async with serve_health(
        "127.0.0.1", 0, why_not_live=lambda: None, why_not_ready=lambda: "It rests.", metrics=bytes
    ) as port:
        live, ready, other = await answers_of(port, "/health/live", "/health/ready", "/v1/jobs")

    assert live[0] == 200
    assert ready == (503, '{"is_well": false, "error": "It rests."}')
    assert other[0] == 404


async def test_a_port_that_is_taken_is_an_error_and_one_that_is_left_is_free_again() -> None:
    """Two workers on one machine need two ports."""
    calm = {"why_not_live": lambda: None, "why_not_ready": lambda: None, "metrics": bytes}
    async with serve_health("127.0.0.1", 0, **calm) as port:  # type: ignore[arg-type]  # mypy joins the lambdas
        with pytest.raises(OSError, match=str(port)):
            async with serve_health("127.0.0.1", port, **calm):  # type: ignore[arg-type]  # as above
                pass

    async with serve_health("127.0.0.1", port, **calm) as again:  # type: ignore[arg-type]  # as above
        assert again == port


async def test_connections_without_a_request_are_few_and_what_is_no_http_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever can reach the port takes no descriptors that the work needs, and fills no log."""
    async with serve_health(
        "127.0.0.1", 0, why_not_live=lambda: None, why_not_ready=lambda: None, metrics=bytes
    ) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 is TLS\r\n\r\n")
        bad = await reader.read()
        writer.close()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]

        refused = await silent[-1][0].read()
        for _, one in silent:
            one.close()

    assert refused == b""
    assert b" 400 " in bad
    assert caplog.text == ""
