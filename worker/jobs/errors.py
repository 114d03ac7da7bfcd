"""What can go wrong in a job.

FileNotHashedError      one file has no digests; the others go on
SelectionError          which files are meant can't be found out; the job ends

The errors of the floors below keep their own types and codes.
"""

from worker.libsafe.errors import (
    JobTakenOverError,
    NotAuthorizedError,
    PlatformBusyError,
    PlatformUnreachableError,
)

# What concerns one file stays with it, also where the platform refuses or fails to tell about it. These
# concern all files alike: nobody can be told anything.
CONCERNS_ALL = (NotAuthorizedError, JobTakenOverError)


class FileNotHashedError(Exception):
    """One file could not be hashed; the code is counted in the job's last message."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class SelectionError(Exception):
    """The search for the trigger's regular expression in a path found no end."""


def is_away(error: Exception) -> bool:
    """Tell a platform that is away, or asks for time, from one that fails over one file."""
    asks_for_time = isinstance(error, PlatformBusyError) and error.retry_after_seconds is not None
    return asks_for_time or isinstance(error, PlatformUnreachableError)


def own_error(error: Exception) -> str:
    """Name an error of ours without its text, which may hold anything."""
    return f"the hash worker itself met an error ({type(error).__name__}); its log has the details."
