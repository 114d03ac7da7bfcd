"""The pool's threads, without a worker around them."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from worker.jobs.stopping import StopReason
from worker.queueing.pool import TaskPool
from worker.queueing.pulse import Pulse
from worker.queueing.running import RunningTasks


class Given:
    """What the pool has told of one task."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.is_accepted = threading.Event()
        self.is_over = threading.Event()
        self.lost: Any = None

    def accepted(self, thread_id: int, at: float) -> None:
        """Take note."""
        assert thread_id == threading.get_native_id()
        self.events.append("accepted")
        self.is_accepted.set()

    def done(self, result: Any) -> None:
        """Take note."""
        self.events.append(f"done {result}")
        self.is_over.set()

    def broke(self, info: Any) -> None:
        """Take note."""
        self.lost = info.exception.exc
        self.is_over.set()

    def timed_out(self, is_soft: bool, seconds: float) -> None:  # noqa: FBT001 - Celery's signature
        """Take note."""
        self.events.append(f"{'soft' if is_soft else 'hard'} {seconds}")


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Give what bodies wait for; at the latest they go when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    """Give a pool of one thread."""
    pool = TaskPool(1, app=SimpleNamespace(running_tasks=RunningTasks(), pulse=Pulse()))
    pool.start()
    yield pool
    pool.stop()


def give(pool: TaskPool, target: Callable[[], Any], **limits: float) -> Given:
    """Give the pool a task."""
    given = Given()
    pool.apply_async(
        target,
        accept_callback=given.accepted,
        callback=given.done,
        error_callback=given.broke,
        timeout_callback=given.timed_out,
        correlation_id="a",
        **limits,
    )
    return given


def test_a_task_is_accepted_and_done_in_a_thread(pool: TaskPool) -> None:
    """The next one too."""
    first = give(pool, threading.get_ident)
    assert first.is_over.wait(30)
    second = give(pool, threading.get_ident)
    assert second.is_over.wait(30)

    assert first.events[0] == "accepted"
    assert first.events == second.events != ["accepted", f"done {threading.get_ident()}"]


def test_a_task_beyond_the_limit_waits(pool: TaskPool, go: threading.Event) -> None:
    """It runs when a thread is free, or when the pool grows."""
    first, second, third = give(pool, go.wait), give(pool, lambda: 2), give(pool, lambda: 3)
    assert first.is_accepted.wait(30)

    assert repr(pool) == "<TaskPool 1 of 1 running, 2 waiting>"
    assert (pool.info["threads"], pool.info["waiting"], pool.info["max-concurrency"]) == (1, 2, 1)
    pool.grow(1)
    assert second.is_over.wait(30)
    assert third.is_over.wait(30)
    go.set()

    assert first.is_over.wait(30)


def test_a_pool_never_shrinks_to_nothing(pool: TaskPool) -> None:
    """A worker without a thread would take no message for ever."""
    pool.grow(2)
    pool.shrink(5)

    assert pool.num_processes == 1
    assert give(pool, lambda: None).is_over.wait(30)


def test_what_breaks_outside_a_body_is_told_as_lost(pool: TaskPool) -> None:
    """So Celery gives the message back; the thread goes on with the next one."""

    def leave() -> None:
        raise SystemExit(3)

    broken = give(pool, leave)
    assert broken.is_over.wait(30)

    assert type(broken.lost).__name__ == "WorkerLostError"
    assert "SystemExit" in str(broken.lost)
    assert give(pool, lambda: None).is_over.wait(30)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"soft_timeout": 0.01, "timeout": 60}, "soft 0.01"),
        ({"soft_timeout": 60, "timeout": 0.01}, "hard 0.01"),
        ({"timeout": 0.01}, "hard 0.01"),
    ],
)
def test_the_shorter_time_limit_asks_the_body_to_stop(
    pool: TaskPool, limits: dict[str, float], told: str
) -> None:
    """No thread is killed, so both limits ask."""
    stopped = threading.Event()
    asked: list[StopReason] = []

    def stop(reason: StopReason) -> None:
        asked.append(reason)
        stopped.set()

    def body() -> None:
        with pool.app.running_tasks.begin("a", stop):
            stopped.wait(30)

    task = give(pool, body, **limits)
    assert task.is_over.wait(30)

    assert asked == [StopReason.TIME_LIMIT]
    assert task.events == ["accepted", told, "done None"]


def test_a_closed_pool_begins_nothing_more(pool: TaskPool, go: threading.Event) -> None:
    """What runs ends; what waits has its message given back."""
    running, waiting = give(pool, go.wait), give(pool, lambda: None)
    assert running.is_accepted.wait(30)

    pool.close()
    go.set()
    pool.stop()

    assert running.events == ["accepted", "done True"]
    assert waiting.events == []
    # Whatever told the worker to end: what runs may take longer than the watchdog's patience.
    assert pool.app.pulse.why_not_ready() == "The worker is about to end."
