"""The proxies of the fault suite do what they say: otherwise it would try nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.fault_http import RESET, Answer, HttpProxy, Relay
from tests.support.fault_tcp import Flow, TcpProxy

_BODY = bytes(range(251)) * 1000


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[TcpProxy]:
    """Put the proxy before a server that sends back what it gets."""

    async def send_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(send_back, "127.0.0.1", 0)
    async with server, TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def through(proxy: TcpProxy, sent: bytes) -> bytes:
    """Send something, and give what comes back until all is there or the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(sent)
    back = b""
    try:
        while len(back) < len(sent) and (piece := await reader.read(65536)):
            back += piece
    except ConnectionError:
        pass
    writer.close()
    return back


async def test_bytes_pass_unchanged(echo: TcpProxy) -> None:
    """Both ways, whatever their number."""
    assert await through(echo, _BODY) == _BODY


async def test_a_connection_is_cut_after_so_many_bytes(echo: TcpProxy) -> None:
    """None comes after them."""
    echo.flow = Flow(cut_after_bytes=100)

    assert _BODY[:100].startswith(await through(echo, _BODY))


async def test_one_byte_is_flipped_once(echo: TcpProxy) -> None:
    """At its offset, and never again."""
    echo.flow = Flow(flip_at=70)

    back = await through(echo, _BODY)

    assert [at for at, byte in enumerate(back) if byte != _BODY[at]] == [70]
    assert await through(echo, _BODY) == _BODY


async def test_a_drip_comes_in_drops(echo: TcpProxy) -> None:
    """Nothing is lost by it."""
    echo.flow = Flow(drip=(10, 0.001))

    assert await through(echo, _BODY[:200]) == _BODY[:200]


async def test_a_refused_client_is_welcome_again_at_the_same_port(echo: TcpProxy) -> None:
    """A server that was down comes back where it was."""
    await echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        await through(echo, b"x")
    await echo.accept()

    assert await through(echo, b"x") == b"x"


async def test_a_reset_ends_connections_that_wait(echo: TcpProxy) -> None:
    """As the peer sees it when the other machine has crashed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"x")
    await reader.readexactly(1)

    echo.reset()

    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


async def test_what_was_sent_while_frozen_comes_after_the_thaw(echo: TcpProxy) -> None:
    """A frozen network closes nothing and loses nothing."""
    echo.freeze()
    back = asyncio.create_task(through(echo, b"late"))
    done, _ = await asyncio.wait({back}, timeout=0.05)
    echo.thaw()

    assert not done
    assert await back == b"late"


class Origin:
    """A server that gives one body, whole or a range of it, and notes what was asked of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer."""
        self.seen.append(f"{request.method} {request.raw_path}")
        part = request.http_range
        if part.start is None:
            return web.Response(body=_BODY)
        return web.Response(
            status=206, body=_BODY[part], headers={"Content-Range": f"bytes {part.start}-{part.stop - 1}/x"}
        )


@pytest_asyncio.fixture
async def origin() -> Origin:
    """Make the server's notes."""
    return Origin()


@pytest_asyncio.fixture
async def proxy(origin: Origin) -> AsyncIterator[HttpProxy]:
    """Put the proxy before the server."""
    runner = web.ServerRunner(web.Server(origin.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with HttpProxy(f"http://127.0.0.1:{runner.addresses[0][1]}", Counter()) as proxy:
        yield proxy
    await runner.cleanup()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
        yield session


async def test_a_request_passes_with_its_path_and_its_bytes_are_counted(
    proxy: HttpProxy, http: aiohttp.ClientSession, origin: Origin
) -> None:
    """The path stays encoded as it was."""
    async with http.get(f"{proxy.url}/a%20b?c=%2F", headers={"Range": "bytes=10-19"}) as answer:
        assert (answer.status, await answer.read()) == (206, _BODY[10:20])

    assert origin.seen == ["GET /a%20b?c=/"]
    assert proxy.body_bytes["/a b"] == 10


async def test_only_so_many_requests_meet_a_fault(proxy: HttpProxy, http: aiohttp.ClientSession) -> None:
    """And only those that match; each is counted."""
    proxy.on("busy", lambda request: request.method == "GET", Answer(503), times=2)

    statuses = []
    for method in ("POST", "GET", "GET", "GET"):
        async with http.request(method, f"{proxy.url}/x") as answer:
            statuses.append(answer.status)

    assert statuses == [200, 503, 503, 200]
    assert proxy.faults["busy"] == 2


async def test_a_write_that_is_answered_by_an_error_was_applied(
    proxy: HttpProxy, http: aiohttp.ClientSession, origin: Origin
) -> None:
    """The client can't know."""
    proxy.on("500 after", lambda request: True, Answer(500, is_applied=True))

    async with http.post(f"{proxy.url}/write", data=b"body") as answer:
        assert answer.status == 500

    assert origin.seen == ["POST /write"]


async def test_without_its_range_a_request_gets_the_whole_body(
    proxy: HttpProxy, http: aiohttp.ClientSession
) -> None:
    """As from a server that knows no ranges: 200 for 206."""
    proxy.on("200", lambda request: True, Relay(without=frozenset({"Range"}), headers={"ETag": "x"}))

    async with http.get(f"{proxy.url}/x", headers={"Range": "bytes=0-9"}) as answer:
        assert (answer.status, answer.headers["ETag"], len(await answer.read())) == (200, "x", len(_BODY))


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (RESET, aiohttp.ClientError),
        (Relay(reset_after_bytes=1000), aiohttp.ClientError),
        (Relay(stall_after_bytes=1000), TimeoutError),
        (Answer(200, delay_seconds=60), TimeoutError),
    ],
    ids=["reset", "reset in mid-body", "stall", "silence"],
)
async def test_a_body_that_does_not_end_never_passes_for_a_whole_one(
    proxy: HttpProxy, http: aiohttp.ClientSession, action: Relay | Answer, expected: type[Exception]
) -> None:
    """The client sees an error or runs into its own time limit."""
    proxy.on("fault", lambda request: True, action)

    with pytest.raises(expected):
        async with http.get(f"{proxy.url}/x") as answer:
            await answer.read()


async def test_a_refused_request_is_welcome_again_at_the_same_port(
    proxy: HttpProxy, http: aiohttp.ClientSession
) -> None:
    """A platform that was down comes back where it was."""
    await proxy.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(f"{proxy.url}/x")
    await proxy.accept()

    async with http.get(f"{proxy.url}/x") as answer:
        assert answer.status == 200
