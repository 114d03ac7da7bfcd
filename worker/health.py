"""A small HTTP server beside the work: is it alive, is it ready, and what Prometheus asks for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

# For requests under way when it ends.
_END_SECONDS = 1
# What is no HTTP is answered and forgotten: anybody can send it.
_QUIET = logging.getLogger(f"{__name__}.quiet")
_QUIET.disabled = True

WhyNot = Callable[[], str | None]
"""Gives one sentence if something is not well."""


class FewConnection(web.RequestHandler):
    """A connection that is one of few: whoever sends no request must not take all descriptors.

    Attributes:
        most: How many there may be of one server.
    """

    most = 64

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, and close it at once if it is one too many."""
        super().connection_made(transport)
        assert self._manager is not None
        if len(self._manager.connections) > self.most:
            self.force_close()


async def listen(
    runner: web.AppRunner, kind: type[FewConnection], host: str, port: int, **options: Any
) -> asyncio.Server:
    """Listen with connections of a kind of our own, and log no request.

    Args:
        runner: It is set up.
        kind: Of the connections.
        host: Address to listen at.
        port: 0 is any that is free.
        options: Of `web.RequestHandler`.

    Raises:
        OSError: Nobody can listen there.
    """
    assert runner.server is not None, "it is set up"
    loop = asyncio.get_running_loop()
    make_connection = partial(
        kind,
        runner.server,
        loop=loop,
        access_log=None,  # type: ignore[arg-type]  # for aiohttp it means none
        **options,
    )
    return await loop.create_server(make_connection, host, port)


@asynccontextmanager
async def serve_health(
    host: str, port: int, *, why_not_live: WhyNot, why_not_ready: WhyNot, metrics: Callable[[], bytes]
) -> AsyncIterator[int]:
    """Serve /health/live, /health/ready and /metrics while the block runs; 503 means no.

    Args:
        host: Address to listen at.
        port: As above; 0: any that is free.
        why_not_live: Asked at each request to /health/live.
        why_not_ready: As above, of /health/ready.
        metrics: Gives /metrics, in Prometheus' text format.

    Yields:
        The port.

    Raises:
        OSError: It can't listen there.
    """

    def answer_of(why_not: WhyNot) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            reason = why_not()
            status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
            body = {"is_well": True} if reason is None else {"is_well": False, "error": reason}
            return web.json_response(body, status=status)

        return answer

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/health/live", answer_of(why_not_live))
    app.router.add_get("/health/ready", answer_of(why_not_ready))
    app.router.add_get("/metrics", show_metrics)
    runner = web.AppRunner(app, shutdown_timeout=_END_SECONDS)
    await runner.setup()
    try:
        listener = await listen(runner, FewConnection, host, port, logger=_QUIET)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()
