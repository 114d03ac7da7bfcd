"""What a message asks for: a payload to be run, or one batch of a job that is spread."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from worker.jobs.batches import Batches, Sending
from worker.libsafe.errors import JobAddress, PayloadError
from worker.libsafe.names import batch_name, job_name
from worker.libsafe.payload import Payload
from worker.queueing.app import BATCH_QUEUE
from worker.queueing.dead_letters import DEAD
from worker.queueing.lease import Room
from worker.queueing.message import batch_template


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tasks may run at once in all workers.

    Args:
        container_batches: Batches of one container's files, count.
        platform_tasks: Tasks that speak with one platform, count.
    """

    container_batches: int
    platform_tasks: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a message asks for.

    Args:
        job: The job's name in Redis.
        address: Where to tell of it.
        payload: What to run, or to refuse.
        document: The payload as it came.
        batch: Of a job that is spread; None for the payload itself.
    """

    job: str
    address: JobAddress
    payload: Payload | PayloadError
    document: dict[str, Any] = field(repr=False)
    batch: int | None = None

    @property
    def name(self) -> str:
        """What has the lease: the job, or one of its batches. Who plans the job has the job's."""
        return batch_name(self.job, self.batch) if self.batch else self.job

    @property
    def parks(self) -> dict[str, Any] | None:
        """The payload that is put aside with a batch: it takes its whole job along."""
        return None if self.batch is None else self.document

    @property
    def sending(self) -> Sending:
        """What the job's batches are sent with, if it comes to have some."""
        return Sending(json.dumps(self.document), batch_template(self.job), BATCH_QUEUE, DEAD)

    def rooms(self, limits: Limits) -> list[Room]:
        """Tell where there has to be room for a run of it.

        A small job does not wait for a large one of its container.
        """
        platform = f"hash-worker:room:{self.address.api_url}"
        rooms = [Room(platform, limits.platform_tasks)]
        if self.batch and isinstance(self.payload, Payload):
            container_id = self.payload.function_data.container.id
            if container_id is not None:
                rooms.append(Room(f"{platform}/container/{container_id}", limits.container_batches))
        return rooms


def read_payload(document: dict[str, Any], batch: int | None = None) -> Assignment:
    """Read a payload, or what is wrong with it.

    Raises:
        PayloadError: Something is wrong, and it names no job or no key: nobody can be told.
    """
    try:
        payload = Payload.parse(document)
    except PayloadError as error:
        if error.job is None:
            raise
        return Assignment(job_name(error.job), error.job, error, document, batch)
    return Assignment(job_name(payload.address), payload.address, payload, document, batch)


async def read_batch(redis: Redis, document: Mapping[str, Any]) -> Assignment | None:
    """Read what the message of a batch asks for; None if its job is over.

    Args:
        redis: The broker's.
        document: `{"job": <its name in Redis>, "batch": <its number>}`.
    """
    text = await Batches(redis, document["job"], most_sent=0).document()
    return None if text is None else read_payload(json.loads(text), document["batch"])
