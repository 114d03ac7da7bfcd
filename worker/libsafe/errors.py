"""What can go wrong between us and the platform.

    LibsafeError
    ├── TransientLibsafeError           trying again may help
    │   ├── PlatformUnreachableError    platform_unreachable
    │   └── PlatformBusyError           platform_busy
    └── PermanentLibsafeError           trying again cannot help
        ├── NotAuthorizedError          not_authorized
        ├── NotPermittedError           not_permitted
        ├── NotFoundError               not_found
        ├── RejectedError               rejected
        ├── WrongAnswerError            wrong_answer
        ├── HostNotAllowedError         host_not_allowed
        ├── JobTakenOverError           taken_over
        └── PayloadError                payload

No text, attribute or cause of these errors carries a key in the clear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import SecretStr


class LibsafeError(Exception):
    """The platform, or what it sent, could not be worked with."""

    code: ClassVar[str] = "libsafe"


class TransientLibsafeError(LibsafeError):
    """Trying again may help."""


class PermanentLibsafeError(LibsafeError):
    """Trying again cannot help before somebody changes something."""


class PlatformUnreachableError(TransientLibsafeError):
    """No whole answer came: no connection, no name, no time left, or cut off in the middle."""

    code = "platform_unreachable"


class PlatformBusyError(TransientLibsafeError):
    """The platform answered that it cannot do it now (408, 425, 429 or any 5xx)."""

    code = "platform_busy"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotAuthorizedError(PermanentLibsafeError):
    """The platform does not accept the key at all (401)."""

    code = "not_authorized"


class NotPermittedError(PermanentLibsafeError):
    """The platform accepts the key, but not for this (403)."""

    code = "not_permitted"


class NotFoundError(PermanentLibsafeError):
    """The platform has no such job, file, container or storage (404)."""

    code = "not_found"


class RejectedError(PermanentLibsafeError):
    """The platform understood and said no (another 4xx, or ``"success": false``)."""

    code = "rejected"

    def __init__(self, message: str, *, platform_message: str | None = None) -> None:
        super().__init__(message)
        self.platform_message = platform_message


class WrongAnswerError(PermanentLibsafeError):
    """The answer is not what the jobs API promises: no JSON, no envelope, missing fields, a redirect."""

    code = "wrong_answer"


class HostNotAllowedError(PermanentLibsafeError):
    """The address is not on the list of hosts that may be given a key."""

    code = "host_not_allowed"


class JobTakenOverError(PermanentLibsafeError):
    """Another run has the job's lease, or the job has ended: this run may tell the platform nothing more."""

    code = "taken_over"


@dataclass(frozen=True, slots=True)
class Fault:
    """Say what is wrong with one field of a payload.

    Args:
        path: Where it stands in the document, like ``function_data.files.ids[0]``; ``payload`` is the whole.
        message: What is wrong, to be read after the path. It never repeats the value.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} {self.message}"


@dataclass(frozen=True, slots=True)
class JobAddress:
    """Tell where a job can be reported to when its payload cannot be used.

    Args:
        api_url: The platform's address, as in `worker.libsafe.addresses.api_address`.
        key: The user's key.
        job_id: The job's id.
    """

    api_url: str
    key: SecretStr
    job_id: str


class PayloadError(PermanentLibsafeError):
    """The payload cannot be used; its text lists every fault on a line of its own.

    Args:
        faults: All that is wrong, in the document's order.
        job: Where to report it, or None when the document does not tell all three of address, key and job.
    """

    code = "payload"

    def __init__(self, faults: Sequence[Fault], *, job: JobAddress | None = None) -> None:
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(
            f"The payload cannot be used; correct this where it is made and send it again:{lines}"
        )
        self.faults = tuple(faults)
        self.job = job
