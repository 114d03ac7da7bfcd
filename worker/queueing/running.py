"""What runs in this process, and how it is asked to stop: a thread can't be killed, its body must listen."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, signals

from worker.jobs.stopping import StopReason

AskToStop = Callable[[StopReason], None]
"""Asks a body to stop. It is called in any thread, returns at once, and may come when the body is over."""


@dataclass
class _TakenTask:
    """One task id. Copies of a message share it, so it may run more than once."""

    runs: int = 0
    stops: list[AskToStop] = field(default_factory=list)
    reason: StopReason | None = None


class RunningTasks:
    """The tasks of this process from the moment a thread takes them until they are over.

    Attributes:
        grace_seconds: Time that they have when the worker ends; without one they have for ever.
    """

    def __init__(self) -> None:
        # A signal's handler may come while its own thread is in here.
        self._lock = threading.RLock()
        self._tasks: dict[str, _TakenTask] = {}
        self._reason_for_all: StopReason | None = None
        self._is_ending = False
        self.grace_seconds: float | None = None

    def __repr__(self) -> str:
        return f"<RunningTasks {sum(task.runs for task in self._tasks.values())} running>"

    @contextmanager
    def accepted(self, task_id: str) -> Iterator[None]:
        """Remember, while the block runs, that a thread has this task, whether or not its body has begun."""
        with self._lock:
            self._tasks.setdefault(task_id, _TakenTask()).runs += 1
        try:
            yield
        finally:
            with self._lock:
                task = self._tasks[task_id]
                task.runs -= 1
                if not task.runs:
                    del self._tasks[task_id]

    @contextmanager
    def begin(self, task_id: str, stop: AskToStop) -> Iterator[None]:
        """Say, while the block runs, how the task's body is asked to stop.

        A stop that came since the task was accepted is handed over at once.
        """
        with self.accepted(task_id):
            with self._lock:
                task = self._tasks[task_id]
                task.stops.append(stop)
                reason = task.reason or self._reason_for_all
            if reason:
                stop(reason)
            try:
                yield
            finally:
                with self._lock:
                    task.stops.remove(stop)

    def stop(self, task_id: str, reason: StopReason) -> bool:
        """Ask a task to stop. Only the first reason counts.

        Returns:
            Whether this process has the task.
        """
        with self._lock:
            task = self._tasks.get(task_id)
            if task is None:
                return False
            is_first = task.reason is None
            task.reason = task.reason or reason
            stops = list(task.stops) if is_first else []
        for stop in stops:
            stop(reason)
        return True

    def stop_all(self, reason: StopReason) -> None:
        """Ask every task to stop, those too that are accepted from now on."""
        with self._lock:
            self._reason_for_all = self._reason_for_all or reason
            task_ids = list(self._tasks)
        for task_id in task_ids:
            self.stop(task_id, reason)

    def end_soon(self) -> None:
        """Begin the grace time, after which all are stopped since the worker ends. Twice is fine."""
        with self._lock:
            if self._is_ending or self.grace_seconds is None:
                return
            self._is_ending = True
        timer = threading.Timer(self.grace_seconds, self.stop_all, [StopReason.SHUTDOWN])
        timer.daemon = True
        timer.start()

    def on_shutting_down(self, how: str, **_: Any) -> None:
        """Take Celery's signal: a worker was told to end, perhaps for the second time."""
        if how == "Cold" or self._is_ending:
            self.stop_all(StopReason.SHUTDOWN)
        else:
            self.end_soon()


def stop_after_grace(app: Celery, grace_seconds: float) -> None:
    """Stop what runs when the worker has been told to end and the grace time is over.

    A second SIGTERM, a second Ctrl-C or SIGQUIT stops it at once.

    Args:
        app: The application, of `make_app`.
        grace_seconds: Time that tasks have to end by themselves.
    """
    running: RunningTasks = app.running_tasks
    running.grace_seconds = grace_seconds
    signals.worker_shutting_down.connect(running.on_shutting_down, weak=False)
