"""The two tasks: their messages are handed to the deliveries, and Celery is told what becomes of them."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Protocol

import structlog
from celery import Celery, Task
from celery.exceptions import Reject, Retry
from redis.exceptions import RedisError

from worker import metrics
from worker.jobs.ledger import Snapshot
from worker.jobs.progress import Show
from worker.jobs.stopping import Stop, StopReason
from worker.queueing.app import BATCH_TASK, QUEUED_AT, TASK
from worker.queueing.arguments import job_id
from worker.queueing.dead_letters import DeadLetter, DeadLetters
from worker.queueing.fate import Fate, Verdict
from worker.queueing.request import AWAY_SINCE, LetGo

# A platform that is away for longer has forgotten the job, or the job will be missed there.
_LONGEST_AWAY_SECONDS = 24 * 3600

_Handle = Callable[[dict[str, Any], str, Stop, Show], Verdict]

_log = structlog.get_logger(__name__)


class Handler(Protocol):
    """Brings messages to their fate in the event loop, for a task's thread."""

    def handle(self, document: dict[str, Any], delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Wait for `Deliveries.handle`."""

    def handle_batch(self, document: dict[str, Any], delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Wait for `Deliveries.handle_batch`."""

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a function called in the event loop, soon."""


def register(
    app: Celery,
    handler: Handler,
    dead_letters: DeadLetters,
    *,
    pause_seconds: float,
    show: Callable[[str, Snapshot], None],
) -> None:
    """Make `worker.hash_files` and `worker.hash_batch` run jobs and batches.

    Args:
        app: Of `make_app`.
        handler: Brings a message to its fate.
        dead_letters: Where messages go that somebody has to look at.
        pause_seconds: Before a message comes again whose job can't be run now.
        show: Is shown the progress of a task's job, in the event loop; it returns at once.
    """
    bodies = _Bodies(handler, dead_letters, pause_seconds, show)

    # Celery's own limit of retries would end in an error that quotes the payload, so it is off.
    @app.task(name=TASK, bind=True, max_retries=None, shared=False)  # type: ignore[untyped-decorator]  # Celery has no types
    def hash_files(self: Task, document: dict[str, Any]) -> str:
        return bodies.run(self, document, handler.handle)

    @app.task(name=BATCH_TASK, bind=True, max_retries=None, shared=False)  # type: ignore[untyped-decorator]  # as above
    def hash_batch(self: Task, document: dict[str, Any]) -> str:
        return bodies.run(self, document, handler.handle_batch)


class _Bodies:
    """What the bodies of both tasks do."""

    def __init__(
        self,
        handler: Handler,
        dead_letters: DeadLetters,
        pause_seconds: float,
        show: Callable[[str, Snapshot], None],
    ) -> None:
        self._handler = handler
        self._dead_letters = dead_letters
        self._pause_seconds = pause_seconds
        self._show = show

    def run(self, task: Task, document: dict[str, Any], handle: _Handle) -> str:
        """Bring a task's message to its fate; what it raises tells Celery.

        Returns:
            What Flower shows as the result, such as `the job is COMPLETED.`
        """
        with metrics.TASKS_RUNNING.track_inprogress():
            verdict = self._verdict(task, document, handle)
        metrics.TASKS.labels(verdict.fate.value).inc()
        if verdict.is_away:
            metrics.TASKS_PLATFORM_AWAY.inc()
        if verdict.attempt:
            # For Celery's last line about it too; the pool takes it away.
            structlog.contextvars.bind_contextvars(attempt=verdict.attempt)
        _log.info("The task is over", fate=verdict.fate, reason=verdict.reason)
        match verdict.fate:
            case Fate.COMES_AGAIN if _away_seconds(task, verdict) > _LONGEST_AWAY_SECONDS:
                self._put_aside(document, verdict)
            case Fate.COMES_AGAIN:
                raise _sent_anew(task, verdict, self._pause_seconds)
            case Fate.GOES_BACK:
                raise Reject(verdict.reason, requeue=True)
            case Fate.LET_GO:
                raise LetGo(verdict.reason)
            case Fate.PUT_ASIDE:
                self._put_aside(document, verdict)
        return verdict.reason

    def _verdict(self, task: Task, document: dict[str, Any], handle: _Handle) -> Verdict:
        stop = Stop()
        task_id = task.request.id

        def stop_for(reason: StopReason) -> None:
            self._handler.call(stop.request, reason)

        tag = (task.request.properties or {}).get("delivery_tag", "")
        try:
            with task.app.running_tasks.begin(task_id, stop_for):
                return handle(document, tag, stop, partial(self._show, task_id))
        except CancelledError:
            # The event loop is being left. Perhaps the job was not even begun.
            return Verdict(Fate.GOES_BACK, "the worker was stopped.")

    def _put_aside(self, document: dict[str, Any], verdict: Verdict) -> None:
        """Keep a dead letter.

        Raises:
            LetGo: The broker is away or full: what it has of the message stays there and comes again.
        """
        payload = verdict.document or document
        letter = DeadLetter(
            reason=verdict.reason, task=TASK, job_id=job_id([payload]), job=verdict.job, payload=payload
        )
        try:
            if verdict.document is None:
                self._dead_letters.keep(letter)
            else:
                self._dead_letters.park(letter)
        except RedisError:
            raise LetGo("the broker does not take it") from None


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
    for name in (AWAY_SINCE, QUEUED_AT):
        headers.pop(name, None)
    if away_since is not None:
        headers[AWAY_SINCE] = away_since
    try:
        retry: Retry = task.retry(countdown=pause_seconds, headers=headers, throw=False)
    except Reject as rejected:
        _log.warning("A message can't be sent anew", error=type(rejected.reason).__name__)
        raise LetGo("the broker does not take it") from None
    return retry
