"""Bodies and results of the jobs API, as they travel."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

# One spelling for each id, and 18 digits always fit SQLite's 64-bit integers.
ID_PATTERN = "^(0|[1-9][0-9]{0,17})$"
IDEMPOTENCY_KEY_PATTERN = "^[!-~]{1,255}$"


def _id_text(value: Any) -> Any:
    """Turn a number into an id. To JSON Schema 3.0 is an integer; bool is one to Python, and none here."""
    if isinstance(value, bool):
        return value
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if whole else value


Id = Annotated[str, Field(pattern=ID_PATTERN)]
"""An id as the API gives it: a string of digits."""

GivenId = Annotated[
    Id,
    BeforeValidator(_id_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": ID_PATTERN},
                {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
            ]
        }
    ),
]
"""An id as the API takes it: a number is accepted too."""


class JobStatus(StrEnum):
    """Where a job stands. `PENDING` is this project's own name: the vendor has published the other three."""

    PENDING = "PENDING"
    """Made, and nobody has begun it."""
    RUNNING = "RUNNING"
    """A function or a worker has it in hand."""
    COMPLETED = "COMPLETED"
    """Ended well."""
    FAILED = "FAILED"
    """Ended badly."""


ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED})


class _Body(BaseModel):
    """A body; an unknown field is an error, so that a client's slip is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Result(BaseModel):
    """A result."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StatusChange(_Body):
    """A job's new status."""

    status: Literal[JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED]


class NewMessage(_Body):
    """A message for a job."""

    message: str
    # The vendor has published INFO alone, so any name of that shape is kept as it came.
    type: Annotated[str, Field(pattern="^[A-Z]{1,32}$")] = "INFO"
    file_id: GivenId | None = None


class FileHash(_Body):
    """One stored hash of a file; storing it again under the same algorithm replaces it."""

    algorithm: Annotated[str, Field(pattern="^[a-z0-9._-]{1,32}$")]
    # Whole bytes, up to 1024 bits.
    hash: Annotated[str, Field(pattern="^([0-9a-f]{2}){1,128}$")]


class Page(BaseModel):
    """Which part of a list is asked for; an unknown parameter is an error, as in a body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=1000, description="Most records to give.")] = 1000
    after: Annotated[Id, Field(description="The last id seen; 0 for the first page.")] = "0"


class Job(_Result):
    """A job."""

    id: Id
    status: JobStatus


class Message(_Result):
    """A message of a job."""

    id: Id
    message: str
    type: str
    file_id: Id | None


class File(_Result):
    """A file's record."""

    id: Id
    container_id: Id
    filename: str
    fullpath: Annotated[str, Field(pattern="^/", description="With a leading slash.")]
    size: Annotated[int, Field(ge=0, description="In bytes.")]
    type: Literal["FILE", "FOLDER"]
    deleted: Literal[0, 1]
    storage_class_id: Id


class MetadataItem(_Result):
    """One metadata value of a file."""

    iecode: str
    value: str


class Container(_Result):
    """A data container."""

    id: Id
    name: str
    storage_id: Id


class Storage(_Result):
    """Where a container's objects are. A file's key is the prefix and its path without the leading slash."""

    id: Id
    bucket: str
    endpoint: Annotated[str | None, Field(description="null is Amazon's own.")]
    region: str
    key_prefix: str


class Health(_Result):
    """The server answers."""

    status: Literal["ok"] = "ok"
