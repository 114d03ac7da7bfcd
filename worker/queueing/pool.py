"""Celery's pool: a thread for each running task; one without a task waits for the next.

A thread can't be killed. Terminating, time limits and the end of the worker ask the task's body to stop,
through `app.running_tasks`; what it then does with its job and its message is the body's business.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.concurrency.base import BasePool
from celery.worker import state

from worker.jobs.stopping import StopReason

# A cold stop waits so long for bodies that were asked to stop.
_COLD_STOP_SECONDS = 5.0
_LOOK_SECONDS = 0.1

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Execution:
    """One task, from the moment it is given to the pool. Celery refers to it weakly."""

    task_id: str
    target: Callable[..., Any]
    args: Sequence[Any] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    on_accepted: Callable[[int, float], None]
    on_done: Callable[[Any], None]
    on_lost: Callable[[Any], None]
    on_timeout: Callable[[bool, float], None]
    soft_limit_seconds: float | None
    hard_limit_seconds: float | None


class TaskPool(BasePool):  # type: ignore[misc]  # Celery has no types
    """As many threads as tasks run, at most `limit`."""

    limit: int
    signal_safe = False  # stopping waits, which a signal's handler must not
    body_can_be_buffer = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A signal's handler may come while its own thread is in here.
        self._changed = threading.Condition(threading.RLock())
        # Celery opens a backend in each thread, which takes 5 ms: so they are kept.
        self._threads: set[threading.Thread] = set()
        self._busy: set[threading.Thread] = set()
        self._waiting: deque[_Execution] = deque()
        self._is_ending = False

    def __repr__(self) -> str:
        return f"<TaskPool {len(self._busy)} of {self.limit} running, {len(self._waiting)} waiting>"

    def start(self) -> None:
        """Begin to take tasks."""
        super().start()
        self._does_debug = False  # Celery's line shows the arguments

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        correlation_id: str,
        accept_callback: Callable[[int, float], None],
        callback: Callable[[Any], None],
        error_callback: Callable[[Any], None],
        timeout_callback: Callable[[bool, float], None],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Execution:
        """Run a task in a thread of its own, or when another one is over."""
        execution = _Execution(
            task_id=correlation_id,
            target=target,
            args=args,
            kwargs=kwargs,
            on_accepted=accept_callback,
            on_done=callback,
            on_lost=error_callback,
            on_timeout=timeout_callback,
            soft_limit_seconds=soft_timeout or self.options.get("soft_timeout"),
            hard_limit_seconds=timeout or self.options.get("timeout"),
        )
        with self._changed:
            self._waiting.append(execution)
            self._serve()
        return execution

    def grow(self, n: int = 1) -> None:
        """Allow more tasks at once."""
        with self._changed:
            self.limit += n
            self._serve()

    def shrink(self, n: int = 1) -> None:
        """Allow fewer tasks at once, at least one. What runs, runs on."""
        with self._changed:
            self.limit = max(1, self.limit - n)
            self._serve()

    def flush(self) -> None:
        """Forget the tasks that wait for a thread; their messages have gone back to the queue."""
        with self._changed:
            self._waiting.clear()

    def on_close(self) -> None:
        """Begin nothing more: the worker ends, whoever told it to."""
        _log.info("The worker was told to end", tasks=len(self._busy))
        self.flush()
        # Celery's signal does not come when remote control shuts a worker down.
        self.app.pulse.end_soon()
        self.app.running_tasks.end_soon()

    def on_stop(self) -> None:
        """Wait for what runs; a worker that ends cold waits only for a moment."""
        with self._changed:
            self._is_ending = True
            self._serve()
        give_up_at = None
        while threads := list(self._threads):
            threads[0].join(timeout=_LOOK_SECONDS)
            if state.should_terminate not in {None, False}:
                give_up_at = give_up_at or monotonic() + _COLD_STOP_SECONDS
                if monotonic() > give_up_at:
                    _log.error("Tasks did not stop in time and are left behind", tasks=len(threads))
                    return

    def _get_info(self) -> dict[str, Any]:
        limits = self.options.get("soft_timeout") or 0, self.options.get("timeout") or 0
        with self._changed:
            pool = {"threads": len(self._busy), "waiting": len(self._waiting), "timeouts": limits}
        return {**super()._get_info(), **pool}

    def _serve(self) -> None:
        """Have as many threads as are allowed and needed; those that are too many leave."""
        needed = 0 if self._is_ending else min(self.limit, len(self._busy) + len(self._waiting))
        while len(self._threads) < needed:
            # A task that does not stop must not keep the process.
            thread = threading.Thread(target=self._run_all, name="task", daemon=True)
            self._threads.add(thread)
            thread.start()
        self._changed.notify_all()

    def _run_all(self) -> None:
        try:
            while execution := self._next():
                self._run(execution)
                del execution  # it holds a payload, and the next one may be long in coming
        finally:
            with self._changed:
                self._busy.discard(threading.current_thread())
                self._threads.discard(threading.current_thread())
                self._serve()

    def _next(self) -> _Execution | None:
        """Wait for a task; none if this thread has to leave."""
        this = threading.current_thread()
        with self._changed:
            self._busy.discard(this)
            while not self._is_ending and len(self._threads) <= self.limit:
                if self._waiting:
                    self._busy.add(this)
                    return self._waiting.popleft()
                self._changed.wait()
            self._threads.discard(this)
            return None

    def _run(self, execution: _Execution) -> None:
        clock = self._start_clock(execution)
        try:
            with self.app.running_tasks.accepted(execution.task_id):
                execution.on_accepted(threading.get_native_id(), monotonic())
                execution.on_done(execution.target(*execution.args, **execution.kwargs))
        except BaseException as error:  # noqa: BLE001  # this thread's last: Celery must hear of it, and gives the message back
            _log.exception("A task broke outside its body", task_id=execution.task_id)
            lost = WorkerLostError(f"the task broke outside its body ({type(error).__name__})")
            execution.on_lost(ExceptionInfo((WorkerLostError, lost, error.__traceback__)))
        finally:
            if clock:
                clock.cancel()
            # What the request has bound in this thread.
            structlog.contextvars.clear_contextvars()

    def _start_clock(self, execution: _Execution) -> threading.Timer | None:
        """Both limits ask, since no task is killed; so the shorter one is the limit."""
        soft, hard = execution.soft_limit_seconds, execution.hard_limit_seconds
        limits = [limit for limit in (soft, hard) if limit]
        if not limits:
            return None
        clock = threading.Timer(min(limits), self._time_is_over, [execution, min(limits)])
        clock.daemon = True
        clock.start()
        return clock

    def _time_is_over(self, execution: _Execution, limit_seconds: float) -> None:
        execution.on_timeout(limit_seconds == execution.soft_limit_seconds, limit_seconds)
        self.app.running_tasks.stop(execution.task_id, StopReason.TIME_LIMIT)
