"""Answers of the gateway, as they travel."""

from pydantic import BaseModel, ConfigDict, Field

from worker.jobs.ledger import JobState


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accepted(_Answer):
    """A payload is on the queue."""

    job_id: str
    task_id: str = Field(description="Celery's; Flower shows the task under it.")


class Cancelled(_Answer):
    """A job is to end FAILED within seconds."""

    job_id: str
    platform: str


class FileCounts(_Answer):
    """Files of a job, count."""

    total: int | None = Field(description="null until the job is planned.")
    done: int
    hashed: int
    not_hashed: dict[str, int] = Field(description="By the code of the reason.")
    passed_over: dict[str, int] = Field(description="By the code of the reason.")


class ByteCounts(_Answer):
    """Bytes of a job."""

    total: int | None = Field(description="null until the job is planned.")
    done: int


class BatchCounts(_Answer):
    """Batches of a job that is spread over the workers."""

    total: int = Field(description="Planned so far; 0 for a job that one task runs whole.")
    settled: int = Field(description="Done, and the platform has their reports.")
    broken: int = Field(description="Of those, that were broken off; the job's messages say why.")


class JobProgress(_Answer):
    """How far a job is."""

    job_id: str
    task_id: str | None = Field(description="null for a job that did not come by the gateway.")
    platform: str = Field(description="`api.url` of its payload, in its one form.")
    state: JobState = Field(description="WAITING: nobody has begun it. LEFT: the platform itself ended it.")
    files: FileCounts
    bytes: ByteCounts
    batches: BatchCounts
    share: float | None = Field(description="Done, 0 to 1, by bytes; null until the job is planned.")
    bytes_per_second: int
    seconds: float = Field(description="Since it began.")
    seconds_left: float | None = Field(description="null where it can't be told.")
    cancelled: str | None = Field(description="Why it is to end, if somebody said so.")
    is_parked: bool = Field(description="Nothing of it is done before its dead letter is queued again.")


class Health(_Answer):
    """The answer to a probe."""

    is_well: bool


class FaultFound(_Answer):
    """What is wrong with one field of a payload."""

    where: str = Field(description="Its path, like `function_data.files.ids[0]`; `payload` is the whole.")
    what: str


class Refusal(_Answer):
    """Why a request was not done."""

    error: str = Field(min_length=1, description="One sentence.")
    faults: tuple[FaultFound, ...] = ()
    platforms: tuple[str, ...] = Field(default=(), description="Those that have a job of this id.")
