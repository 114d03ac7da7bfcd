"""The one task: its message is handed to the deliveries, and Celery is told what becomes of it."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Protocol

import structlog
from celery import Celery, Task
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.stopping import Stop, StopReason
from worker.libsafe.payload import job_id_in
from worker.queueing.app import TASK
from worker.queueing.dead_letters import DeadLetter, DeadLetters
from worker.queueing.deliveries import Fate, Verdict
from worker.queueing.request import LetGo

# A platform that is away for longer has forgotten the job, or the job will be missed there.
_LONGEST_AWAY_SECONDS = 24 * 3600

_log = structlog.get_logger(__name__)


class Handler(Protocol):
    """Brings messages to their fate in the event loop, for a task's thread."""

    def handle(self, document: Any, delivery_tag: str, stop: Stop) -> Verdict:
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

    # Celery's own limit of retries would end in an error that quotes the payload, so it is off; and so is its
    # check of arguments, whose error nobody would see.
    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name=TASK,
        bind=True,
        max_retries=None,
        shared=False,
        typing=False,
    )
    def hash_files(self: Task, *arguments: Any, **options: Any) -> None:
        document = arguments[0] if len(arguments) == 1 and not options else None
        about = {"task_id": self.request.id, "job_id": job_id_in(document)}
        with structlog.contextvars.bound_contextvars(**about):
            verdict = _verdict(self, handler, document)
            _log.info("The task is over", fate=verdict.fate, reason=verdict.reason)
            away_seconds = self.request.retries * pause_seconds
            try:
                match verdict.fate:
                    case Fate.COMES_AGAIN if verdict.is_away and away_seconds > _LONGEST_AWAY_SECONDS:
                        dead_letters.keep(_letter(document, verdict))
                    case Fate.COMES_AGAIN:
                        raise self.retry(countdown=pause_seconds) from None
                    case Fate.GOES_BACK:
                        raise Reject(verdict.reason, requeue=True)
                    case Fate.LET_GO:
                        raise LetGo(verdict.reason)
                    case Fate.PUT_ASIDE:
                        dead_letters.keep(_letter(document, verdict))
            except (OperationalError, RedisError):
                # The broker is away: what it has of the message stays there and comes again.
                raise LetGo("the broker is away") from None


def _verdict(task: Task, handler: Handler, document: Any) -> Verdict:
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


def _letter(document: Any, verdict: Verdict) -> DeadLetter:
    payload = document if isinstance(document, dict) else None
    return DeadLetter(
        reason=verdict.reason, task=TASK, job_id=job_id_in(document), job=verdict.job, payload=payload
    )
