"""What the platform tells us: frozen records of jobs, files, containers and storages.

They are read strictly, because a digest depends on them, but unknown keys pass and ids may be numbers.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr

from worker.libsafe.identifiers import Identifier, OptionalIdentifier


class JobStatus(StrEnum):
    """Where a job stands; these three are all that the vendor has published."""

    RUNNING = "RUNNING"
    """A worker has begun and has not ended it."""
    COMPLETED = "COMPLETED"
    """It has ended and everything was done."""
    FAILED = "FAILED"
    """It has ended and something was not done; its messages say what."""


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED})


# As far as numbers are exact in every JSON reader (RFC 8259, section 6): 9 PB.
_MOST_BYTES = 2**53


class FileType(StrEnum):
    """What a file record stands for."""

    FILE = "FILE"
    """Something with bytes."""
    FOLDER = "FOLDER"
    """Something with files; it has no bytes of its own."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)


def _empty_if_null(value: object) -> object:
    return "" if value is None else value


_TextOrNull = Annotated[StrictStr, BeforeValidator(_empty_if_null)]


class Job(_Record):
    """A job; a status that the vendor has not published stays plain text and is not terminal."""

    id: Identifier
    status: Annotated[JobStatus | StrictStr, Field(union_mode="left_to_right")]


class JobMessage(_Record):
    """A message of a job, as it is read back. The route is ours, for the demo and the tests."""

    id: Identifier
    message: StrictStr
    type: StrictStr
    file_id: OptionalIdentifier = None


class FileRecord(_Record):
    """A file or a folder of a container; `fullpath` begins with a slash."""

    id: Identifier
    container_id: Identifier
    filename: StrictStr
    fullpath: StrictStr
    size_bytes: Annotated[int, Field(validation_alias="size", strict=True, ge=0, le=_MOST_BYTES)]
    type: FileType
    deleted: bool = False
    storage_class_id: OptionalIdentifier = None

    @property
    def path(self) -> str:
        """Give the path without its leading slash, as routes and object keys take it."""
        return self.fullpath.removeprefix("/")


class FileHash(_Record):
    """A hash that the platform keeps of a file, under the platform's own name of the algorithm."""

    algorithm: StrictStr
    hex_digest: Annotated[StrictStr, Field(validation_alias="hash")]


class MetadataItem(_Record):
    """One value of a file's metadata; an iecode may come several times."""

    iecode: StrictStr
    value: Any


class Container(_Record):
    """A data container and the storage that holds its objects."""

    id: Identifier
    name: StrictStr
    storage_id: Identifier


class Storage(_Record):
    """A storage of the platform; an endpoint of None is AWS, a region of None is the settings' business."""

    id: Identifier
    bucket: Annotated[StrictStr, Field(min_length=1)]
    endpoint: StrictStr | None = None
    region: StrictStr | None = None
    key_prefix: _TextOrNull = ""
