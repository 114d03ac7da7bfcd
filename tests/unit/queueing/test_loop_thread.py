"""The event loop's thread: it opens one resource, runs work for other threads, and ends clean."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager

import pytest

from worker.queueing.loop_thread import LoopThread


class Resource:
    """Something that is open for a while."""

    def __init__(self) -> None:
        self.is_open = True


@asynccontextmanager
async def opening() -> AsyncIterator[Resource]:
    """Open a resource and close it."""
    resource = Resource()
    yield resource
    resource.is_open = False


def test_work_runs_in_the_loops_thread_and_its_result_comes_back() -> None:
    """A task's thread waits; the work is done elsewhere."""

    async def where() -> int:
        return threading.get_ident()

    with LoopThread(opening) as loop:
        assert loop.run(where()) != threading.get_ident()


def test_a_call_is_made_in_the_loops_thread_and_after_the_end_not_at_all() -> None:
    """Whoever stops a task may do so from any thread, and late."""
    called: list[int] = []

    def note() -> None:
        called.append(threading.get_ident())

    async def turn() -> int:
        return threading.get_ident()

    with LoopThread(opening) as loop:
        loop.call(note)
        loop_thread = loop.run(turn())
    loop.call(note)

    assert called == [loop_thread]


def test_an_error_of_the_work_is_raised_where_it_is_waited_for() -> None:
    """A failed job is the task's failure, not the loop's."""

    async def fail() -> None:
        raise LookupError("no such thing")

    async def succeed() -> str:
        return "still here"

    with LoopThread(opening) as loop:
        with pytest.raises(LookupError, match="no such thing"):
            loop.run(fail())

        assert loop.run(succeed()) == "still here"


def test_work_that_is_not_waited_for_can_be_cancelled() -> None:
    """It ends in the loop, and others go on."""
    is_begun, is_cancelled = threading.Event(), threading.Event()

    async def stay() -> None:
        is_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()

    with LoopThread(opening) as loop:
        coming = loop.start(stay())
        assert is_begun.wait(timeout=10)
        coming.cancel()

        assert is_cancelled.wait(timeout=10)
        assert loop.run(asyncio.sleep(0, "still here")) == "still here"


def test_leaving_closes_the_resource_and_ends_the_thread() -> None:
    """Nothing is left."""
    with LoopThread(opening) as loop:
        resource = loop.resource
        assert resource.is_open

    assert not resource.is_open
    assert "event-loop" not in [thread.name for thread in threading.enumerate()]


def test_a_resource_that_cannot_be_opened_is_an_error_at_the_entrance() -> None:
    """The caller gets the reason, and no thread stays behind."""

    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        await asyncio.sleep(0)
        raise OSError("no memory")
        yield

    with pytest.raises(OSError, match="no memory"), LoopThread(failing):
        pass

    assert "event-loop" not in [thread.name for thread in threading.enumerate()]


def test_ctrl_c_while_the_resource_is_being_opened_ends_the_opening_and_the_thread() -> None:
    """Whoever starts a worker and thinks better of it does not wait."""
    ended: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.sleep(20)
            ended.append("opened")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        yield

    with pytest.raises(KeyboardInterrupt), LoopThread(slow):
        pass

    assert ended == ["cancelled"]
    assert "event-loop" not in [thread.name for thread in threading.enumerate()]


def test_work_that_still_runs_ends_before_the_resource_is_closed() -> None:
    """A cancelled job can still tell the platform; the task's thread learns it when that is done."""
    begun = threading.Event()
    told: list[bool] = []
    failures: list[BaseException] = []

    async def tell_at_the_end(resource: Resource) -> None:
        begun.set()
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0.01)
            told.append(resource.is_open)

    def task() -> None:
        try:
            loop.run(tell_at_the_end(loop.resource))
        except CancelledError as error:
            failures.append(error)

    with LoopThread(opening) as loop:
        waiting = threading.Thread(target=task)
        waiting.start()
        begun.wait(20)
    waiting.join(20)

    assert told == [True]
    assert [type(failure) for failure in failures] == [CancelledError]


def test_work_that_comes_after_the_leaving_is_not_begun() -> None:
    """A task's thread must not wait for a loop that is gone."""

    async def work() -> None:
        pytest.fail("nothing is open any more")

    with LoopThread(opening) as loop:
        pass

    with pytest.raises(CancelledError, match="being left"):
        loop.run(work())
