"""The one task: its message is handed to the deliveries, and Celery is told what becomes of it."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Protocol

import structlog
from celery import Celery, Task
from celery.exceptions import Reject, Retry
from redis.exceptions import RedisError

from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.payload import job_id_in
from worker.queueing.app import TASK
from worker.queueing.dead_letters import DeadLetter, DeadLetters
from worker.queueing.deliveries import Fate, Verdict
from worker.queueing.request import AWAY_SINCE, LetGo

# A platform that is away for longer has forgotten the job, or the job will be missed there.
_LONGEST_AWAY_SECONDS = 24 * 3600

_log = structlog.get_logger(__name__)


class Handler(Protocol):
    """Brings messages to their fate in the event loop, for a task's thread."""

    def handle(self, document: dict[str, Any], delivery_tag: str, stop: Stop) -> Verdict:
        """Wait for `Deliveries.handle`."""

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a function called in the event loop, soon."""


def register(app: Celery, handler: Handler, dead_letters: DeadLetters, *, pause_seconds: float) -> None:
    """Make `worker.hash_files` run jobs.

    Args:
        app: Of `make_app`.
        handler: Brings a message to its fate.
        dead_letters: Where messages go that somebody has to look at.
        pause_seconds: Before a message comes again whose job can't be run now.
    """

    # Celery's own limit of retries would end in an error that quotes the payload, so it is off.
    @app.task(name=TASK, bind=True, max_retries=None, shared=False)  # type: ignore[untyped-decorator]  # Celery has no types
    def hash_files(self: Task, document: dict[str, Any]) -> None:
        about = {"task_id": self.request.id, "job_id": job_id_in(document)}
        with structlog.contextvars.bound_contextvars(**about):
            verdict = _verdict(self, handler, document)
            _log.info("The task is over", fate=verdict.fate, reason=verdict.reason)
            match verdict.fate:
                case Fate.COMES_AGAIN if _away_seconds(self, verdict) > _LONGEST_AWAY_SECONDS:
                    _put_aside(dead_letters, document, verdict)
                case Fate.COMES_AGAIN:
                    raise _sent_anew(self, verdict, pause_seconds)
                case Fate.GOES_BACK:
                    raise Reject(verdict.reason, requeue=True)
                case Fate.LET_GO:
                    raise LetGo(verdict.reason)
                case Fate.PUT_ASIDE:
                    _put_aside(dead_letters, document, verdict)


def _verdict(task: Task, handler: Handler, document: dict[str, Any]) -> Verdict:
    stop = Stop()

    def stop_for(reason: StopReason) -> None:
        handler.call(stop.request, reason)

    tag = (task.request.properties or {}).get("delivery_tag", "")
    try:
        with task.app.running_tasks.begin(task.request.id, stop_for):
            return handler.handle(document, tag, stop)
    except CancelledError:
        # The event loop is being left. Perhaps the job was not even begun.
        return Verdict(Fate.GOES_BACK, "the worker was stopped.")


def _away_since(task: Task, verdict: Verdict) -> float | None:
    """Tell since when the platform is away without a break, in seconds since 1970."""
    if not verdict.is_away:
        return None
    since: float | None = (task.request.headers or {}).get(AWAY_SINCE)
    return time.time() if since is None else since


def _away_seconds(task: Task, verdict: Verdict) -> float:
    since = _away_since(task, verdict)
    return 0 if since is None else time.time() - since


def _sent_anew(task: Task, verdict: Verdict, pause_seconds: float) -> Retry:
    """Send the message once more, for after the pause.

    Raises:
        LetGo: The broker is away or full. What Celery raises then would have the message deleted.
    """
    headers = dict(task.request.headers or {})
    away_since = _away_since(task, verdict)
    headers.pop(AWAY_SINCE, None)
    if away_since is not None:
        headers[AWAY_SINCE] = away_since
    try:
        retry: Retry = task.retry(countdown=pause_seconds, headers=headers, throw=False)
    except Reject as rejected:
        _log.warning("A message can't be sent anew", error=type(rejected.reason).__name__)
        raise LetGo("the broker does not take it") from None
    return retry


def _put_aside(dead_letters: DeadLetters, document: dict[str, Any], verdict: Verdict) -> None:
    """Keep a dead letter.

    Raises:
        LetGo: The broker is away or full: what it has of the message stays there and comes again.
    """
    letter = DeadLetter(
        reason=verdict.reason, task=TASK, job_id=job_id_in(document), job=verdict.job, payload=document
    )
    try:
        dead_letters.keep(letter)
    except RedisError:
        raise LetGo("the broker does not take it") from None
