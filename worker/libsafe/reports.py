"""Reports: what a job tells the platform, and how it is said in the platform's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.libsafe.models import JobStatus


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The job's status changes."""

    status: JobStatus


@dataclass(frozen=True, slots=True)
class MessageReport:
    """The job has something to say.

    Args:
        text: What is said.
        level: How grave it is, like INFO, WARNING or ERROR.
        file_id: The file that it is about, if any.
    """

    text: str
    level: str = "INFO"
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class HashReport:
    """A file's digest is to be stored.

    Args:
        file_id: The file.
        algorithm: Our name of the algorithm.
        hex_digest: In lower case.
    """

    file_id: str
    algorithm: str
    hex_digest: str


@dataclass(frozen=True, slots=True)
class EndOfBatch:
    """Nothing more is told of a batch; the platform hears nothing of this."""

    batch: int
    is_broken: bool


Report = StatusReport | MessageReport | HashReport | EndOfBatch


def _published_message_types() -> Mapping[str, str]:
    return {"INFO": "INFO"}


def _published_hash_names() -> Mapping[str, str]:
    return {"md5": "md5", "sha1": "sha1", "sha256": "sha256"}


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """Say reports in the platform's words; the defaults are all that the vendor has published.

    Args:
        message_types: From our level to the platform's message type.
        hash_names: From our algorithm to the platform's name; what is not in it, or has an empty name, is not
            stored.
    """

    message_types: Mapping[str, str] = field(default_factory=_published_message_types)
    hash_names: Mapping[str, str] = field(default_factory=_published_hash_names)

    def message(self, report: MessageReport) -> tuple[str, str]:
        """Tell a message's type and text; a level without a type goes as INFO, named before the text."""
        message_type = self.message_types.get(report.level)
        if message_type is not None:
            return message_type, report.text
        prefix = "" if report.level == "INFO" else f"{report.level}: "
        return self.message_types.get("INFO", "INFO"), prefix + report.text

    def hash_name(self, algorithm: str) -> str | None:
        """Tell the platform's name of an algorithm, or None: then the digest's message stands instead."""
        return self.hash_names.get(algorithm) or None
