"""Where a platform's key is sent, and where not."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from pydantic import SecretStr

from tests.support.name_service import Listener, NameService, listening
from worker.libsafe.client import PlatformClient, open_http
from worker.libsafe.errors import HostNotAllowedError, WrongAnswerError
from worker.libsafe.routes import Routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

METADATA = "169.254.169.254"
KEY = "hush-key"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameService:
    """Install a name service of the test's own."""
    return NameService().install(monkeypatch)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the connections that clients share."""
    async with open_http() as session:
        yield session


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Run a server that should never be reached."""
    async with listening() as listener:
        yield listener


def client_of(url: str, http: aiohttp.ClientSession) -> PlatformClient:
    """Make a client that would try again at once."""
    return PlatformClient(url, SecretStr(KEY), Routes(), http, attempts=5, first_pause_seconds=0.001)


@pytest.mark.parametrize("now", [METADATA, "127.0.0.1", "fd00:ec2::254", "::ffff:169.254.169.254", "::1"])
async def test_a_name_that_turns_to_a_forbidden_address_is_not_connected_to(
    names: NameService, listener: Listener, http: aiohttp.ClientSession, now: str
) -> None:
    """Whoever looked before saw a public one; it is looked at once more, when connecting, and not again."""
    names.answers["go.example.test"] = [["203.0.113.7"], [now]]
    client = client_of(f"http://go.example.test:{listener.port}", http)
    socket.getaddrinfo("go.example.test", listener.port)

    with pytest.raises(HostNotAllowedError, match=rf"go\.example\.test leads to {now}") as caught:
        await client.job("299")

    assert listener.connections == 0
    assert len(names.asked) == 2
    assert KEY not in f"{caught.value!r}{caught.value}"


async def test_calls_that_wait_for_the_same_name_are_all_refused(
    names: NameService, listener: Listener, http: aiohttp.ClientSession
) -> None:
    """The name service is asked for all of them at once."""
    names.answers["go.example.test"] = [["127.0.0.1"]]
    client = client_of(f"http://go.example.test:{listener.port}", http)

    outcomes = await asyncio.gather(*(client.job("299") for _ in range(5)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [HostNotAllowedError] * 5
    assert listener.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_takes_the_key_elsewhere(
    listener: Listener, http: aiohttp.ClientSession, status: int
) -> None:
    """Neither to another server nor to a metadata service, for what reads and for what writes."""
    places = [f"http://127.0.0.1:{listener.port}", f"http://{METADATA}"]
    keys_seen = []

    async def redirect(request: web.BaseRequest) -> web.StreamResponse:
        keys_seen.append(request.headers["Authorization"])
        place = places[len(keys_seen) // 2 % 2]
        return web.Response(status=status, headers={"Location": f"{place}{request.raw_path}"})

    runner = web.ServerRunner(web.Server(redirect), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = client_of(f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    try:
        for _ in places:
            with pytest.raises(WrongAnswerError, match="elsewhere"):
                await client.job("299")
            with pytest.raises(WrongAnswerError, match="elsewhere"):
                await client.post_message("299", "text", "INFO", None, "key-1")
    finally:
        await runner.cleanup()

    assert keys_seen == [f"Bearer {KEY}"] * 4
    assert listener.connections == 0


async def test_a_name_of_this_machine_may_be_connected_to(
    names: NameService, listener: Listener, http: aiohttp.ClientSession
) -> None:
    """The rule refuses what it means to refuse: localhost, and names under it, are reached."""
    names.answers["go.localhost"] = [["127.0.0.1"]]
    client = PlatformClient(
        f"http://go.localhost:{listener.port}", SecretStr(KEY), Routes(), http, attempts=1
    )

    await asyncio.gather(client.job("299"), return_exceptions=True)

    assert KEY.encode() in listener.heard
