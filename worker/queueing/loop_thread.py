"""One event loop in a thread of its own, with one resource open in it for as long as the thread lives.

Celery knows no asynchronous tasks, so a task's thread hands its work to this loop and waits. All S3 and
API traffic of a worker shares the loop, and so its connections.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

ResourceT = TypeVar("ResourceT")
ResultT = TypeVar("ResultT")


class LoopThread(Generic[ResourceT]):
    """A context manager: entering opens the resource in the loop, leaving closes it and ends the thread.

    Work that still runs when it is left is cancelled, and has ended before the resource is closed. Whatever
    interrupts the entering, such as Ctrl-C, cancels the opening.

    Args:
        open_resource: Gives what is open in the loop.
        name: The thread's.
    """

    def __init__(
        self,
        open_resource: Callable[[], AbstractAsyncContextManager[ResourceT]],
        *,
        name: str = "event-loop",
    ) -> None:
        self._open_resource = open_resource
        self._name = name
        self._ready: Future[ResourceT] = Future()
        self._leave = asyncio.Event()
        self._is_left = False
        self._handing_in = threading.Lock()
        self._works: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Self:
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        # There before the thread is, so that leaving can tell it at any time.
        self._loop = runner.get_loop()
        self._thread = threading.Thread(target=self._run_loop, args=(runner,), name=self._name)
        try:
            self._thread.start()
            self.resource = self._ready.result()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine in the loop and wait for its end. For any thread but the loop's own.

        Raises:
            concurrent.futures.CancelledError: The work was cancelled since the loop is being left, or was not
                begun for that reason.
        """
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        """Begin a coroutine in the loop and do not wait; to cancel what this gives cancels the work.

        Raises:
            concurrent.futures.CancelledError: The loop is being left.
        """
        with self._handing_in:
            if self._is_left:
                work.close()
                raise CancelledError("The event loop is being left and begins nothing more.")
            return asyncio.run_coroutine_threadsafe(self._work(work), self._loop)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a function called in the loop, soon; from any thread. After the end it is not called."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    async def _work(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return await task

    def _end(self) -> None:
        with self._handing_in:
            self._is_left = True
        with suppress(RuntimeError):  # the loop is closed already, since the resource could not be opened
            self._loop.call_soon_threadsafe(self._leave.set)
        with suppress(RuntimeError):  # interrupted before the thread had begun: it ends as soon as it has
            self._thread.join()

    def _run_loop(self, runner: asyncio.Runner) -> None:
        try:
            with runner:
                runner.run(self._main())
        except BaseException as error:
            # Entering failed: the thread that enters raises it. Leaving failed: this thread does.
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _main(self) -> None:
        main = asyncio.current_task()
        leave = asyncio.ensure_future(self._leave.wait())

        def cancel_opening(_: object) -> None:
            if main is not None and not self._ready.done():
                main.cancel()

        leave.add_done_callback(cancel_opening)
        async with self._open_resource() as resource:
            self._ready.set_result(resource)
            await leave
            await self._end_works()

    async def _end_works(self) -> None:
        """Cancel what other threads have handed in, and wait until it has told whom it must."""
        for work in self._works:
            work.cancel()
        if self._works:
            await asyncio.wait(self._works)
