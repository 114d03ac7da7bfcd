"""An HTTP proxy whose answers go wrong as they are told, request by request."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.fault_tcp import reset

_HOST = "127.0.0.1"
_PIECE_BYTES = 64 * 1024
# They concern one connection and not the request or the answer (RFC 9110, section 7.6.1).
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})

Matches = Callable[[web.BaseRequest], bool]


@dataclass(frozen=True)
class Relay:
    """Pass the request on, and its answer back with something wrong.

    Args:
        without: Headers of the request that are left out.
        headers: Headers of the answer that get another value; None takes one away.
        status: Of the answer, in the place of its own.
        bytes_per_second: The body comes no faster.
        reset_after_bytes: Of the body; then the connection is reset.
        stall_after_bytes: Of the body; then nothing comes and nothing is closed.
    """

    without: frozenset[str] = frozenset()
    headers: Mapping[str, str | None] = field(default_factory=dict)
    status: int | None = None
    bytes_per_second: float = math.inf
    reset_after_bytes: float = math.inf
    stall_after_bytes: float = math.inf


@dataclass(frozen=True)
class Answer:
    """Answer in the server's place.

    Args:
        status: Of the answer; None resets the connection.
        headers: Of the answer.
        body: Of the answer.
        is_applied: The request is passed on before, and the server's own answer thrown away.
        delay_seconds: Before the answer.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_applied: bool = False
    delay_seconds: float = 0


RESET = Answer(None)
"""The connection is reset before anything is done."""

Action = Relay | Answer | Callable[[web.BaseRequest], Awaitable[Relay | Answer]]
"""What is done with a request; a function may do something meanwhile and then decide."""


@dataclass
class _Fault:
    name: str
    matches: Matches
    action: Action
    times: float


class HttpProxy:
    """Forwards requests to a server, and fails where it is told; an async context manager.

    Args:
        target_url: The server's base URL.
        faults: Where each fault that a request met is counted by its name.

    Attributes:
        url: Its own base URL; its port stays the same.
        requests: How many came, by method and path.
        body_bytes: Bytes of what was asked for by GET and passed back, by path.
        bytes_per_second: No body of an answer comes faster; no fault, since it is only slow.
        delay_seconds: Each request waits so long before it is passed on; likewise.
        faults: How many requests met a fault, by its name.
    """

    def __init__(self, target_url: str, faults: Counter[str] | None = None) -> None:
        self._target = URL(target_url)
        self.faults = faults if faults is not None else Counter()
        self._planned: list[_Fault] = []
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), handle_signals=False, shutdown_timeout=0.1
        )
        self._site: web.TCPSite | None = None
        self._port = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        self.body_bytes: Counter[str] = Counter()
        self.bytes_per_second = math.inf
        self.delay_seconds = 0.0

    def __repr__(self) -> str:
        return f"<HttpProxy {self._port} -> {self._target}: {len(self._planned)} faults>"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{_HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        await self._runner.setup()
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._http.close()

    def on(self, name: str, matches: Matches, action: Action, times: float = math.inf) -> None:
        """Let so many requests meet a fault from now on; of several that match, the first counts.

        Args:
            name: What it is counted as.
            matches: Which requests.
            action: What happens to them.
            times: How many of them.
        """
        self._planned.append(_Fault(name, matches, action, times))

    def heal(self) -> None:
        """Take all faults away, and be fast again."""
        self._planned.clear()
        self.bytes_per_second = math.inf
        self.delay_seconds = 0.0

    async def refuse(self) -> None:
        """Reset all connections, and refuse new ones until `accept`."""
        if self._site is not None:
            self.faults["connections refused"] += 1
            await self._site.stop()
            self._site = None
            self._reset()

    async def accept(self) -> None:
        """Listen, at the same port as before."""
        if self._site is None:
            self._site = web.TCPSite(self._runner, _HOST, self._port)
            await self._site.start()
            self._port = self._runner.addresses[0][1]

    def reset(self) -> None:
        """Reset all connections that there are."""
        self.faults["connections reset"] += 1
        self._reset()

    def _reset(self) -> None:
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            reset(connection.transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests[request.method, request.path] += 1
        body = await request.read()
        action = await self._action(request)
        await asyncio.sleep(self.delay_seconds)
        try:
            if isinstance(action, Answer):
                return await self._answer(request, body, action)
            return await self._relay(request, body, action)
        except aiohttp.ClientError:  # the server itself is away
            reset(request.transport)
        except ConnectionError:  # the client has gone
            pass
        return web.Response()

    async def _action(self, request: web.BaseRequest) -> Relay | Answer:
        for fault in self._planned:
            if fault.times > 0 and fault.matches(request):
                fault.times -= 1
                self.faults[fault.name] += 1
                if isinstance(fault.action, Relay | Answer):
                    return fault.action
                return await fault.action(request)
        return Relay()

    async def _answer(self, request: web.BaseRequest, body: bytes, action: Answer) -> web.StreamResponse:
        if action.is_applied:
            async with self._ask(request, body, frozenset()) as answer:
                await answer.read()
        await asyncio.sleep(action.delay_seconds)
        if action.status is None:
            reset(request.transport)
            return web.Response()
        return web.Response(status=action.status, headers=action.headers, body=action.body)

    def _ask(
        self, request: web.BaseRequest, body: bytes, without: frozenset[str]
    ) -> "aiohttp.client._RequestContextManager":
        left_out = _HOP_BY_HOP | {name.lower() for name in without}
        return self._http.request(
            request.method,
            self._target.join(URL(request.raw_path, encoded=True)),
            headers=[
                (name, value) for name, value in request.headers.items() if name.lower() not in left_out
            ],
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            data=body or None,
            allow_redirects=False,
        )

    async def _relay(self, request: web.BaseRequest, body: bytes, action: Relay) -> web.StreamResponse:
        async with self._ask(request, body, action.without) as answer:
            response = web.StreamResponse(status=action.status or answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP | {"date", "server"}:
                    response.headers.add(name, value)
            for name, changed in action.headers.items():
                response.headers.popall(name, None)
                if changed is not None:
                    response.headers[name] = changed
            await response.prepare(request)
            if request.method != "HEAD":
                await self._pass_back(request, answer, response, action)
            return response

    async def _pass_back(
        self,
        request: web.BaseRequest,
        answer: aiohttp.ClientResponse,
        response: web.StreamResponse,
        action: Relay,
    ) -> None:
        rate = min(action.bytes_per_second, self.bytes_per_second)
        end = min(action.reset_after_bytes, action.stall_after_bytes)
        passed_bytes = 0
        # At least ten pieces a second, so that slow is slow and not first nothing and then all.
        piece_bytes = max(1, int(min(_PIECE_BYTES, rate / 10)))
        async for piece in answer.content.iter_chunked(piece_bytes):
            passed = piece[: int(min(len(piece), end - passed_bytes))]
            await response.write(passed)
            passed_bytes += len(passed)
            if request.method == "GET" and answer.ok:
                self.body_bytes[request.path] += len(passed)
            if passed_bytes >= end:
                break
            await asyncio.sleep(len(passed) / rate)
        if passed_bytes >= action.stall_after_bytes:
            await _gone(request)
        if passed_bytes >= action.reset_after_bytes:
            reset(request.transport)


async def _gone(request: web.BaseRequest) -> None:
    """Wait until the client has given up."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.05)
