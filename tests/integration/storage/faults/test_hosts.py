"""Where S3 keys and what they sign are sent, and where not."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.faulty_s3 import ADDRESS, CONTENT, LIMITS, FaultyS3, access_to, read, serving
from tests.support.name_service import Listener, NameService, listening
from worker.storage.errors import EndpointNotAllowedError, WrongAnswerError
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.faulty_s3 import Fault

METADATA = "169.254.169.254"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameService:
    """Install a name service of the test's own."""
    return NameService().install(monkeypatch)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Run a server that should never be reached."""
    async with listening() as listener:
        yield listener


def redirect_to(url: str, status: int) -> Fault:
    """Point elsewhere."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"{url}{request.raw_path}"})

    return fault


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_takes_the_keys_elsewhere(
    listener: Listener,
    is_direct: bool,  # noqa: FBT001 - a fixture
    status: int,
) -> None:
    """A redirect is an error: a session token must not follow it to another host."""
    handler = FaultyS3()
    async with serving(handler) as url, ObjectStore(access_to(url), LIMITS, is_direct=is_direct) as store:
        await read(store)
        for elsewhere in (f"http://127.0.0.1:{listener.port}", f"http://{METADATA}"):
            handler.always = redirect_to(elsewhere, status)
            with pytest.raises(WrongAnswerError, match=str(status)):
                await read(store)
            with pytest.raises(WrongAnswerError, match=str(status)):
                await store.pin(ADDRESS)

    assert listener.connections == 0


ASKING: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "read": read,
    "pin": lambda store: store.pin(ADDRESS),
    "reach": lambda store: store.reach("bucket"),
}


@pytest.mark.parametrize("now", [METADATA, "127.0.0.1", "fd00:ec2::254", "::ffff:169.254.169.254"])
@pytest.mark.parametrize("asking", ASKING)
async def test_a_name_that_turns_to_a_forbidden_address_is_not_connected_to(
    names: NameService, listener: Listener, asking: str, now: str
) -> None:
    """Whoever looked before saw a public one; it is looked at once more, when connecting, and not again."""
    names.answers["s3.example.test"] = [["203.0.113.7"], [now]]
    access = access_to(f"http://s3.example.test:{listener.port}")
    socket.getaddrinfo("s3.example.test", listener.port)

    async with ObjectStore(access, LIMITS) as store:
        with pytest.raises(EndpointNotAllowedError, match=rf"s3://bucket.*s3\.example\.test leads to {now}"):
            await ASKING[asking](store)

    assert listener.connections == 0
    assert len(names.asked) == 2


@pytest.mark.parametrize("now", [["169.254.169.254"], ["203.0.113.7", "169.254.169.254"], ["0.0.0.0"]])  # noqa: S104 - refused
async def test_the_direct_way_looks_at_each_connection_of_its_own(names: NameService, now: list[str]) -> None:
    """The bucket is known and was read; then its name turns."""
    names.answers["s3.localhost"] = [["127.0.0.1"]]
    handler = FaultyS3()
    async with serving(handler) as url:
        access = access_to(url.replace("127.0.0.1", "s3.localhost"))
        async with ObjectStore(access, LIMITS) as store:
            assert [await read(store) for _ in range(2)] == [CONTENT] * 2
            assert store._direct is not None
            await store._direct._pool.aclose()
            names.answers["s3.localhost"] = [now]
            handler.asked.clear()

            with pytest.raises(EndpointNotAllowedError, match=rf"s3\.localhost leads to {now[-1]}"):
                await read(store)

    assert not handler.asked


@pytest.mark.parametrize("literal", [METADATA, "[fd00:ec2::254]", "[fe80::1]", "[::ffff:169.254.169.254]"])
async def test_an_endpoint_that_is_for_nobody_is_refused_though_the_settings_name_it(literal: str) -> None:
    """An address written out never passes by a name service; it is refused all the same."""
    async with ObjectStore(access_to(f"http://{literal}:9000"), LIMITS) as store:
        with pytest.raises(EndpointNotAllowedError, match=r"s3://bucket/folder/key .* is a") as caught:
            await read(store)

    assert "hush" not in str(caught.value)
