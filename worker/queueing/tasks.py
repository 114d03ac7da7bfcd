"""The one task: a payload is run as a job."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import Reject

from worker.libsafe.errors import LibsafeError, PlatformBusyError, PlatformUnreachableError
from worker.libsafe.payload import job_id_in
from worker.queueing.app import ARGUMENTS_SHOWN, TASK

# While the platform is away its jobs come back to the queue: a minute apart, for a day.
_COUNTDOWN_SECONDS = 60
_RETRIES = 24 * 60

_log = structlog.get_logger(__name__)


def register(app: Celery, run_job: Callable[[Any], object]) -> None:
    """Make `worker.hash_files` run jobs.

    The message is acknowledged when the task is over, so a worker that dies leaves it on the queue.

    Args:
        app: The application.
        run_job: Runs one payload to its job's end, and returns how it ended.
    """

    # Celery's own limit of retries would end in an error that quotes the payload, so it is off.
    @app.task(name=TASK, bind=True, max_retries=None, shared=False)  # type: ignore[untyped-decorator]  # Celery has no types
    def hash_files(self: Task, document: Any) -> None:
        attempt = self.request.retries + 1
        about = {"task_id": self.request.id, "attempt": attempt, "job_id": job_id_in(document)}
        with structlog.contextvars.bound_contextvars(**about):
            try:
                _log.info("The task is over", end=str(run_job(document)))
            except (PlatformBusyError, PlatformUnreachableError) as error:
                if attempt > _RETRIES:
                    _log.error("The job was given up", reason=str(error))
                    return
                _log.warning("The job waits for the platform", reason=str(error))
                raise self.retry(countdown=_COUNTDOWN_SECONDS, argsrepr=ARGUMENTS_SHOWN) from None
            except CancelledError:
                # Perhaps the job was not even begun. One that was ended meanwhile is left the next time.
                _log.warning("The worker was stopped, the message goes back to the queue")
                raise Reject("the worker was stopped", requeue=True) from None
            except LibsafeError as error:
                _log.error("The job was given up", reason=str(error))
