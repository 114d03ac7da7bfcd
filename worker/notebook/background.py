"""The event loop behind a notebook, in a thread of its own, so that cells may call plain functions.

It is begun when it is first needed, also where an event loop runs already, as in Jupyter; it ends with the
program. A forked process has one of its own, since no thread goes with it: what its parent has opened can't
be used there, nor does it end there.
"""

import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

from worker.notebook.errors import OUR_ERRORS, NotebookError
from worker.queueing.loop_thread import LoopThread

T = TypeVar("T")
Stack = AsyncExitStack[bool | None]


class Background:
    """The one event loop of a process, and what is open in it until the program's end.

    Args:
        before_the_end: What is to be done then, while the loop still runs.
        parents: That of the process from which this one was forked.
    """

    def __init__(
        self, before_the_end: Iterable[Callable[[], None]] = (), parents: "Background | None" = None
    ) -> None:
        self._beginning = threading.Lock()
        self._loop: LoopThread[Stack] | None = None
        self._before_the_end = list(before_the_end)
        self._is_parents = False
        # Kept: whatever collected its loop would close what the parent's loop waits with, which is shared.
        self._parents = parents

    def __repr__(self) -> str:
        return f"<Background {'idle' if self._loop is None else 'running'}>"

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine and give its end, which can be cancelled.

        Raises:
            NotebookError: The loop is that of this process's parent.
        """
        try:
            return self._running().start(work)
        except NotebookError:
            work.close()
            raise

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; an interrupt cancels it."""
        coming = self.start(work)
        try:
            return coming.result()
        except OUR_ERRORS as error:
            # Its text says it all; where in the loop it came from is no news to who reads a cell.
            raise error.with_traceback(None) from None
        except BaseException:
            coming.cancel()
            raise

    def open(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Open a resource and keep it until the program's end, when the last one is closed first."""
        return self.wait(self._running().resource.enter_async_context(resource))

    def before_the_end(self, do: Callable[[], None]) -> None:
        """Have something done at the program's end, while the loop still runs."""
        self._before_the_end.append(do)

    def leave_to_parent(self) -> "Background":
        """Give the one of a process that was just forked; this one works in its parent alone."""
        self._is_parents = True
        return Background(self._before_the_end, parents=self)

    def _running(self) -> LoopThread[Stack]:
        if self._is_parents:
            raise NotebookError("This process was forked: make its Request there, or start it by spawn.")
        with self._beginning:
            if self._loop is None:
                self._loop = LoopThread(Stack, name="notebook").__enter__()  # _end leaves it
                # Not the module atexit: its functions come after the wait for all threads, ours among them,
                # and when no thread can be begun any more, which asking for a host's address needs.
                # concurrent.futures does the same.
                threading._register_atexit(self._end)  # type: ignore[attr-defined]  # noqa: SLF001 - as above
            return self._loop

    def _end(self) -> None:
        if self._is_parents:
            return  # a forked process has its parent's duties at its end too
        assert self._loop is not None
        try:
            for do in self._before_the_end:
                do()
        finally:
            self._loop.__exit__(None, None, None)


_of_this_process = Background()


def background() -> Background:
    """Give the one of this process."""
    return _of_this_process


def _begin_anew() -> None:
    global _of_this_process  # noqa: PLW0603 - a process has one
    _of_this_process = _of_this_process.leave_to_parent()


os.register_at_fork(after_in_child=_begin_anew)
