"""What the broker holds of jobs, for whoever looks from outside."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import redis.asyncio
from pydantic import SecretStr

from tests.support.fault_judge import StandJob
from worker.jobs.ledger import Ledger
from worker.libsafe.errors import JobAddress
from worker.libsafe.names import UNDELIVERED, batch_named, job_name
from worker.queueing.app import BATCH_QUEUE, QUEUE

# Of a job that has ended: its progress for whoever asks, and what tells a late copy of its message.
_KEPT_OF_AN_ENDED_JOB = frozenset({"ledger", "end", "epoch"})


def name_of(job: StandJob) -> str:
    """Give a job's name in Redis."""
    return job_name(JobAddress(job.payload["api"]["url"], SecretStr("any"), job.job_id))


class BrokerBooks:
    """Reads the broker.

    Args:
        broker_url: With its password.

    Attributes:
        redis: Its answers are text.
    """

    def __init__(self, broker_url: str) -> None:
        self.redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(broker_url, decode_responses=True)

    def __repr__(self) -> str:
        return "<BrokerBooks>"

    def ledger_of(self, job: StandJob) -> Ledger:
        """Give a job's ledger."""
        return Ledger(self.redis, name_of(job))

    async def counts(self, job: StandJob) -> Mapping[str, str]:
        """Read all that a job's ledger says."""
        counts: Mapping[str, str] = await self.redis.hgetall(f"{name_of(job)}:ledger")  # type: ignore[misc]  # redis-py's typing of two kinds of client in one
        return counts

    async def count(self, job: StandJob, name: str) -> int:
        """Read one count of a job's ledger, such as `settled`."""
        return int((await self.counts(job)).get(name, 0))

    async def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Give what is on a queue or not acknowledged, each with its queue."""
        async with self.redis.pipeline() as pipe:
            for queue in (QUEUE, BATCH_QUEUE):
                pipe.lrange(queue, 0, -1)
            pipe.hvals("unacked")
            *queued, noted = await pipe.execute()
        found = [
            (queue, json.loads(raw))
            for queue, raws in zip((QUEUE, BATCH_QUEUE), queued, strict=True)
            for raw in raws
        ]
        return found + [(queue, message) for message, _, queue in map(json.loads, noted)]

    async def has_messages(self) -> bool:
        """Tell whether something is on a queue or not acknowledged."""
        return bool(await self.redis.exists(QUEUE, BATCH_QUEUE, "unacked"))

    async def ends_of_batches(self) -> int:
        """Count the batches that are done and not settled."""
        return len([key async for key in self.redis.scan_iter("hash-worker:batch:*:end")])

    async def held_of(self, jobs: Iterable[StandJob]) -> list[str]:
        """Find what is kept of jobs beside what is kept of those that have ended."""
        names = {name_of(job) for job in jobs}
        undelivered = await self.redis.smembers(UNDELIVERED)  # type: ignore[misc]  # as above
        held = [name for name in undelivered if batch_named(name)[0] in names]
        async for key in self.redis.scan_iter("hash-worker:*/job/*:*", count=1000):
            name, _, what = key.rpartition(":")
            job, batch = batch_named(name)
            if job in names and (batch or what not in _KEPT_OF_AN_ENDED_JOB):
                held.append(key)
        return held
