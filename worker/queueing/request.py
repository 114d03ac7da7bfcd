"""A task's request in its worker: what Celery shows of it, and what becomes of its message."""

import time
from datetime import datetime
from typing import Any

import structlog
from billiard.common import TERM_SIGNAME
from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Ignore, InvalidTaskError, Reject, Retry, TimeLimitExceeded, WorkerLostError
from celery.worker import state
from celery.worker.request import Request

from worker import metrics
from worker.jobs.stopping import StopReason
from worker.libsafe.names import END_KEPT_SECONDS
from worker.queueing.app import QUEUED_AT
from worker.queueing.arguments import about, job_id, shown
from worker.queueing.dead_letters import DeadLetter

AWAY_SINCE = "away_since"
"""A header of a message that comes again: since when its platform is away, in seconds since 1970."""

_log = structlog.get_logger(__name__)


class LetGo(Reject):  # type: ignore[misc]  # Celery has no types; its like is named Reject
    """A task's body raises it when another worker has the job: the message is left as it is in Redis.

    The copies of a message share one tag there. To acknowledge or to reject would take the other worker's.
    """


class TaskRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A request that shows no argument, and whose end waits for its body's.

    Terminating, revoking and time limits only ask the body to stop; it ends its job, returns, and then the
    message is acknowledged and events tell what it was. A revoked task that has not begun begins, and is
    stopped at once, since its job must end. An unexpected error of the body makes a dead letter.
    """

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        try:
            super().__init__(message, *args, **options)
        except InvalidTaskError:
            raise
        except Exception as error:
            raise InvalidTaskError(f"it can't be read ({type(error).__name__})") from error
        # Whatever its producer says of them.
        self._argsrepr = self._request_dict["argsrepr"] = shown(self._args)
        self._kwargsrepr = self._request_dict["kwargsrepr"] = "{}"
        # Celery reads the task's own limits once per connection; remote control may change them.
        hard, soft = self._request_dict.get("timelimit") or (None, None)
        self.time_limits = hard or self._task.time_limit, soft or self._task.soft_time_limit
        if self._expires and datetime.now(self._expires.tzinfo) > self._expires:
            raise InvalidTaskError("it expired before a worker took it")
        self._expires: datetime | None = None
        self._terminated_by: Any = None
        self._exceeded_seconds: float | None = None

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002  # Celery's signature
        """Give what remote control shows."""
        return {**super().info(safe=True), "args": self._argsrepr, "kwargs": "{}"}

    def revoked(self) -> bool:
        """Discard nothing; see `on_accepted`."""
        return False

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Take note that a thread has the task; its body has not begun.

        Each line that is logged in the thread from now on, Celery's too, says which job it is about.
        """
        self.message.is_running = True
        structlog.contextvars.bind_contextvars(task_id=self.id, **about(self._args))
        self._note_wait()
        super().on_accepted(pid, time_accepted)
        if self.id in state.revoked and self._terminated_by is None:
            self.terminate()

    def _note_wait(self) -> None:
        """Note how long the message was in its queue; not of one that had to wait, or that comes again."""
        queued_at = self._request_dict.get(QUEUED_AT)
        if self._eta or self.delivery_info.get("redelivered") or not isinstance(queued_at, int | float):
            return
        # It is its producer's word, by another clock.
        seconds = max(0.0, time.time() - queued_at)
        if seconds < END_KEPT_SECONDS:
            metrics.STAGE_SECONDS.labels("queue").observe(seconds)

    def terminate(self, pool: Any = None, signal: Any = None) -> None:
        """Ask the body to stop and to end its job."""
        self._terminated_by = signal or TERM_SIGNAME
        if self.time_start:
            self._app.running_tasks.stop(self.id, StopReason.REVOKED)
        else:
            self._terminate_on_ack = pool, signal

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002  # Celery's signature
        """Ask the body to stop since the worker ends; the message goes back when the connection is closed."""
        self._app.running_tasks.stop(self.id, StopReason.SHUTDOWN)
        self.message.is_running = False

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: ARG002, FBT001  # Celery's signature
        """Take note that the body is being stopped since it took too long."""
        self._exceeded_seconds = timeout
        _log.warning("A task's time limit is over", task_id=self.id, limit_seconds=timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:  # noqa: FBT001, FBT002  # Celery's signature
        """Decide on the message of a body that raised something."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, LetGo):
            self._leave_message()
            self.message.channel.qos.let_go(self.message.delivery_tag)
            return
        if not isinstance(error, Reject | Ignore | Retry | WorkerLostError):
            self._leave_message()
            reason = f"Its task failed unexpectedly ({type(error).__name__})."
            self.message.channel.refuse(
                self.message.delivery_tag,
                DeadLetter(reason=reason, task=self.name, job_id=job_id(self._args)),
            )
        super().on_failure(exc_info, send_failed_event, return_ok)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # Celery's signature
        """Send an event; a body that was stopped and returned has not succeeded."""
        if type == "task-succeeded" and self._exceeded_seconds is not None:
            limit = TimeLimitExceeded(self._exceeded_seconds)
            super().send_event("task-failed", exception=repr(limit), traceback="")
        elif type == "task-succeeded" and self._terminated_by is not None:
            super().send_event("task-revoked", terminated=True, signum=self._terminated_by, expired=False)
        else:
            super().send_event(type, **fields)

    def acknowledge(self) -> None:
        """Have the consumer acknowledge the message."""
        super().acknowledge()
        self._end()

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  # Celery's signature
        """Have the consumer reject the message."""
        super().reject(requeue)
        self._end()

    def _leave_message(self) -> None:
        """Have Celery do nothing more with the message."""
        self.acknowledged = True
        self._end()

    def _end(self) -> None:
        """Take the task off the worker's list, where `Consumer.on_close` may just have put it again."""
        self.message.is_running = False
        state.task_ready(self)
