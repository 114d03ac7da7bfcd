"""Asking tasks to stop."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals

from worker.jobs.stopping import StopReason
from worker.queueing.running import RunningTasks, stop_after_grace


@pytest.fixture
def running() -> Iterator[RunningTasks]:
    """Give the tasks of no process; what it has connected is disconnected."""
    tasks = RunningTasks()
    yield tasks
    signals.worker_shutting_down.disconnect(tasks.on_shutting_down)


def test_a_task_is_asked_while_its_body_runs(running: RunningTasks) -> None:
    """Not before, not after, and no other task."""
    asked: list[StopReason] = []

    with running.begin("a", asked.append):
        assert running.stop("a", StopReason.REVOKED)
        assert not running.stop("b", StopReason.REVOKED)

    assert asked == [StopReason.REVOKED]
    assert not running.stop("a", StopReason.REVOKED)
    assert repr(running) == "<RunningTasks 0 running>"


def test_a_stop_before_the_body_begins_is_handed_over_then(running: RunningTasks) -> None:
    """A thread has the task, its body is not there yet."""
    asked: list[StopReason] = []

    with running.accepted("a"):
        assert running.stop("a", StopReason.TIME_LIMIT)
        with running.begin("a", asked.append):
            assert asked == [StopReason.TIME_LIMIT]


def test_a_stop_is_forgotten_when_the_task_is_over(running: RunningTasks) -> None:
    """The same task may come again, and is not stopped then."""
    asked: list[StopReason] = []
    with running.accepted("a"):
        running.stop("a", StopReason.REVOKED)

    with running.begin("a", asked.append):
        pass

    assert not asked


def test_the_first_reason_counts(running: RunningTasks) -> None:
    """A body is asked once."""
    asked: list[StopReason] = []

    with running.begin("a", asked.append):
        running.stop("a", StopReason.REVOKED)
        running.stop_all(StopReason.SHUTDOWN)

    assert asked == [StopReason.REVOKED]


def test_copies_of_a_task_are_asked_alike(running: RunningTasks) -> None:
    """They share its id; the end of one does not forget the other."""
    asked: list[str] = []

    with running.begin("a", lambda reason: asked.append(f"first {reason}")):
        with running.begin("a", lambda reason: asked.append(f"second {reason}")):
            pass
        running.stop("a", StopReason.REVOKED)

    assert asked == ["first revoked"]


def test_what_is_accepted_after_all_were_stopped_is_stopped_too(running: RunningTasks) -> None:
    """A worker that ends begins nothing long."""
    asked: list[StopReason] = []
    running.stop_all(StopReason.SHUTDOWN)

    with running.begin("a", asked.append):
        pass

    assert asked == [StopReason.SHUTDOWN]


def test_the_tasks_are_stopped_when_the_grace_time_is_over(running: RunningTasks) -> None:
    """The signal of a warm shutdown begins it."""
    stopped = threading.Event()
    stop_after_grace(SimpleNamespace(running_tasks=running), 0)

    with running.begin("a", lambda _: stopped.set()):
        signals.worker_shutting_down.send(sender="a", sig="SIGTERM", how="Warm", exitcode=0)

        assert stopped.wait(timeout=30)


@pytest.mark.parametrize("hows", [["Cold"], ["Warm", "Warm"], ["Warm", "Cold"]])
def test_the_tasks_are_stopped_at_once_for_whoever_is_in_a_hurry(
    running: RunningTasks, hows: list[str]
) -> None:
    """SIGQUIT, or a second SIGTERM or Ctrl-C."""
    asked: list[Any] = []
    stop_after_grace(SimpleNamespace(running_tasks=running), 3600)

    with running.begin("a", asked.append):
        for how in hows:
            assert not asked
            signals.worker_shutting_down.send(sender="a", sig="SIGTERM", how=how, exitcode=0)

        assert asked == [StopReason.SHUTDOWN]


def test_without_a_grace_time_a_warm_shutdown_stops_nothing(running: RunningTasks) -> None:
    """Celery's own way: it waits."""
    asked: list[StopReason] = []

    with running.begin("a", asked.append):
        running.end_soon()

    assert not asked
