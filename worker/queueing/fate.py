"""What can become of a message, and what a run's end means for it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from worker.jobs.stopping import StoppedError, StopReason
from worker.libsafe.errors import JobTakenOverError, LibsafeError, TransientLibsafeError


class Fate(StrEnum):
    """What becomes of a message."""

    ACKNOWLEDGED = "acknowledged"
    """What it asks for is done, and safe; or somebody else sees to it."""
    COMES_AGAIN = "comes again"
    """After a pause: the platform is away, another worker has the job, or there is no room for it."""
    GOES_BACK = "goes back"
    """At once, for another worker."""
    LET_GO = "let go"
    """It is left as it is in the broker: another worker may live on it, or it comes again by itself."""
    PUT_ASIDE = "put aside"
    """Among the dead letters: somebody has to look at it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A message's fate, and why.

    Args:
        fate: What becomes of it.
        reason: A sentence's end, for the log and for the dead letters.
        job: The job's name in Redis, if it has one.
        is_away: It comes again because the platform is away.
        document: Of a batch's message the job's payload: put aside, it takes its whole job along.
        attempt: Which run of its job or batch it was, as `Lease.attempts` counts; 0 if it was none.
    """

    fate: Fate
    reason: str
    job: str | None = None
    is_away: bool = False
    document: dict[str, Any] | None = field(default=None, repr=False)
    attempt: int = 0


def verdict_on(
    error: StoppedError | LibsafeError, job: str, *, is_ended: bool, document: dict[str, Any] | None = None
) -> Verdict:
    """Decide on the message of a job or a batch that a run did not see to its end on the platform.

    Args:
        error: What stood in the way.
        job: The job's name in Redis.
        is_ended: The end was put, and is safe.
        document: As in `Verdict`.
    """
    if isinstance(error, StoppedError) and not is_ended:
        fate = Fate.LET_GO if error.reason is StopReason.LEASE_LOST else Fate.GOES_BACK
        return Verdict(fate, f"it was stopped: {error.reason}.", job)
    if isinstance(error, JobTakenOverError):
        return Verdict(Fate.LET_GO, str(error), job)
    if isinstance(error, StoppedError) or is_ended:
        # What the platform does not have yet is the reconciler's.
        return Verdict(Fate.ACKNOWLEDGED, str(error), job)
    if isinstance(error, TransientLibsafeError):
        return Verdict(Fate.COMES_AGAIN, str(error), job, is_away=True, document=document)
    return Verdict(Fate.PUT_ASIDE, str(error), job, document=document)
