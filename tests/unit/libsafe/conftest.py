"""What the tests of this folder share: HTTP servers that answer as a test tells them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from worker.libsafe.client import open_http

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Serve a handler at every address and method; give its base URL."""
    async with AsyncExitStack() as stack:

        async def started(handler: Handler) -> str:
            return await stack.enter_async_context(_serving(handler))

        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Open connections, closed after the test."""
    async with open_http() as session:
        yield session
