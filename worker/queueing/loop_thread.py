"""One event loop in a thread of its own, with one resource open in it for as long as the thread lives.

Celery knows no asynchronous tasks, so a task's thread hands its work to this loop and waits. All S3 and
API traffic of a worker shares the loop, and so its connections.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

ResourceT = TypeVar("ResourceT")
ResultT = TypeVar("ResultT")


class LoopThread(Generic[ResourceT]):
    """A context manager: entering opens the resource in the loop, leaving closes it and ends the thread."""

    def __init__(self, open_resource: Callable[[], AbstractAsyncContextManager[ResourceT]]) -> None:
        self._open_resource = open_resource
        self._ready: Future[ResourceT] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="event-loop")

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.resource = self._ready.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine in the loop and wait for its end. For any thread but the loop's own."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        try:
            async with self._open_resource() as resource:
                self._ready.set_result(resource)
                await self._leave.wait()
        except Exception as error:
            # Entering failed: the thread that enters raises it. Leaving failed: this thread does.
            if self._ready.done():
                raise
            self._ready.set_exception(error)
