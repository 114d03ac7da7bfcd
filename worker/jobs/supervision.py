"""What surrounds the work of every run: its stop, the watch over it, and what its errors mean for the job."""

from collections.abc import Awaitable, Callable

import structlog

from worker.hashing.errors import HashingError
from worker.jobs.errors import CONCERNS_ALL, SelectionError, own_error
from worker.jobs.stopping import ENDS_JOB, Stop, StoppedError
from worker.jobs.watch import Watch
from worker.libsafe.errors import LibsafeError, TransientLibsafeError
from worker.libsafe.models import JobStatus
from worker.libsafe.sender import ReportSender

_log = structlog.get_logger(__name__)


async def supervise(work: Callable[[], Awaitable[None]], watch: Watch, stop: Stop) -> str | None:
    """Do a run's work under its stop and its watch.

    Returns:
        Why the job has to be broken off, a sentence for its users; None if the work was done.

    Raises:
        StoppedError: It was stopped for a reason that does not end the job.
        JobTakenOverError: Another run has the lease.
        NotAuthorizedError: The platform refuses the key: nobody can be told.
        TransientLibsafeError: The platform is away.
    """
    try:
        with stop:
            async with watch:
                await work()
    except StoppedError as stopped:
        if watch.untold is not None:
            raise watch.untold from None
        if stopped.reason not in ENDS_JOB:
            raise
        return ENDS_JOB[stopped.reason]
    except (*CONCERNS_ALL, TransientLibsafeError):
        raise
    except (HashingError, LibsafeError, SelectionError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a bug must not leave the job RUNNING
        _log.exception("A job met an error of the hash worker itself")
        return own_error(error)
    return None


async def finish(sender: ReportSender, stop: Stop) -> JobStatus | None:
    """Deliver what was put, and give the status that was told; see `ReportSender.finish`.

    A worker that ends leaves it to others; an operator's stop comes too late.
    """
    if stop.reason is None:
        try:
            with stop:
                return await sender.finish()
        except StoppedError as stopped:
            if stopped.reason not in ENDS_JOB:
                raise
    return await sender.finish()
