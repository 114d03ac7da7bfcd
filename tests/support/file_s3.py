"""An S3 server over a folder: it reads no more of a file than it sends, and counts what it sends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from worker.queueing.loop_thread import LoopThread


@dataclass
class FileS3:
    """A running server; the first segment of a path is the bucket's folder.

    Attributes:
        url: Its base URL.
        ranges: What was asked for by GET and answered, as Range headers without `bytes=`.
        sent_bytes: The length of these answers' bodies, also of those that were broken off.
    """

    url: str = ""
    ranges: list[str] = field(default_factory=list)
    sent_bytes: int = 0

    async def count(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count an answer; its head is about to be sent."""
        if request.method == "GET":
            self.ranges.append(request.headers["Range"].removeprefix("bytes="))
            self.sent_bytes += response.content_length or 0


def serving_files(folder: Path) -> LoopThread[FileS3]:
    """Serve a folder in a thread of its own, so that a test may wait for plain functions."""
    return LoopThread(lambda: _serving(folder))


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[FileS3]:
    server = FileS3()

    async def get(request: web.Request) -> web.StreamResponse:
        path = folder / request.match_info["path"]
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    application = web.Application()
    application.router.add_get("/{path:.*}", get)
    application.on_response_prepare.append(server.count)
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
