"""What jobs and batches are called in the broker's Redis, and what is kept there under their names."""

from worker.libsafe.errors import JobAddress

JOB_PREFIX = "hash-worker:job:"
BATCH_PREFIX = "hash-worker:batch:"
UNDELIVERED = "hash-worker:undelivered"
"""The set of jobs and batches that have ended, or are to be ended, and whose platform does not know yet."""
END_KEPT_SECONDS = 30 * 24 * 3600
"""How long a job's end is remembered, to know a copy of its message by."""
KEPT_WHILE_IT_RUNS = (
    "outbox",
    "files",
    "refused",
    "head",
    "attempts",
    "payload",
    "batches",
    "waiting",
    "sent",
    "moving",
)
"""What is kept of a job beside its lease, its epoch, its end and its ledger."""
KEPT_OF_A_BATCH = ("outbox", "files", "end", "head", "attempts", "epoch")
"""What is kept of a batch beside its lease, until it is settled; scripts count on the outbox being first."""


def job_name(address: JobAddress) -> str:
    """Name a job in Redis: two platforms may both have a job 299."""
    return f"{JOB_PREFIX}{address.api_url}/job/{address.job_id}"


def batch_name(job: str, batch: int) -> str:
    """Name a batch of a job in Redis."""
    return f"{BATCH_PREFIX}{batch}:{job}"


def batch_named(name: str) -> tuple[str, int]:
    """Tell the job and the batch of a name; a job's own name is that of batch 0."""
    if not name.startswith(BATCH_PREFIX):
        return name, 0
    batch, _, job = name.removeprefix(BATCH_PREFIX).partition(":")
    return job, int(batch)
