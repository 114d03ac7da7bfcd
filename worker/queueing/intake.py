"""The intake: payloads put on the queue once each, for callers who need an answer within seconds.

Whether a payload is on the queue and what was answered for it is one fact: one script writes both. So whoever
had no answer repeats, and gets the one that there was.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import compress, islice
from time import monotonic
from typing import Any
from uuid import uuid4

import redis.exceptions
import structlog
from redis.asyncio import Redis

from worker.jobs.ledger import Ledger, Snapshot, jobs_named, platform_of
from worker.libsafe.errors import JobAddress
from worker.libsafe.names import END_KEPT_SECONDS, UNDELIVERED, job_name
from worker.queueing.app import BATCH_QUEUE, QUEUE, TASK
from worker.queueing.broker import connection_pool
from worker.queueing.dead_letters import DEAD
from worker.queueing.lease import UNACKED
from worker.queueing.message import envelope
from worker.queueing.transport import MAX_MESSAGE_BYTES

_CONNECT_SECONDS = 1
_ANSWER_SECONDS = 2
# Undelivered ends that are known by name, to tell an old one from ever new ones; of 100 bytes each.
_MOST_ENDS_KNOWN = 1000

# KEYS: the job's task, the queue. ARGV: a task's id, its message, seconds to keep the id.
_ACCEPT = """
local known = redis.call('GET', KEYS[1])
if known then return known end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return ARGV[1]
"""

_log = structlog.get_logger(__name__)


class BrokerAwayError(Exception):
    """The broker is away, slow or full; what was asked of it may be done or not. Asking again is safe."""


class MessageTooLongError(Exception):
    """A payload's message would be longer than workers take."""


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job that the broker knows.

    Args:
        name: In Redis.
        task_id: What was answered when it was accepted; None for one that came to the queue another way.
        snapshot: Its progress.
    """

    name: str
    task_id: str | None
    snapshot: Snapshot

    @property
    def platform(self) -> str:
        """The address of its platform."""
        return platform_of(self.name)


@dataclass(frozen=True, slots=True)
class Lengths:
    """What waits in the broker.

    Args:
        messages: By queue, count; without those that workers have taken.
        taken: Messages that workers have taken and not acknowledged, count.
        undelivered: Jobs and batches that have ended without their platform knowing, count.
        oldest_undelivered_seconds: For how long one of them has been there at each look; 0 without any.
        dead_letters: Count.
    """

    messages: Mapping[str, int]
    taken: int
    undelivered: int
    oldest_undelivered_seconds: float
    dead_letters: int


class Intake:
    """Takes payloads and tells of their jobs; each method raises `BrokerAwayError` after two seconds.

    Args:
        redis: The broker's, with answers decoded, by a client that does not try again.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._is_away = False
        self._ends_since: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Intake, the broker is {'away' if self._is_away else 'there'}>"

    async def accept(self, address: JobAddress, document: Mapping[str, Any]) -> str:
        """Put a payload on the queue, unless that was done already and the job's end is not forgotten.

        Args:
            address: Of its job.
            document: The payload as it came; it is not checked here.

        Returns:
            The task's id, the same for each copy of the payload.

        Raises:
            MessageTooLongError: Nothing was put on the queue.
        """
        job = job_name(address)
        task_id = str(uuid4())
        message = envelope(TASK, document, queue=QUEUE, task_id=task_id)
        if len(message) > MAX_MESSAGE_BYTES:
            raise MessageTooLongError
        async with self._in_time():
            # First, so that no job is on the queue that can't be found. A name without a job says nothing.
            await Ledger(self._redis, job).note_name()
            keys = [_task_key(job), QUEUE]
            known: str = await self._redis.eval(  # type: ignore[misc]  # redis types it for both its clients
                _ACCEPT, len(keys), *keys, task_id, message, END_KEPT_SECONDS
            )
        return known

    async def jobs(self, job_id: str) -> list[KnownJob]:
        """Find the jobs with this id, of each platform that has one."""
        async with self._in_time():
            found = [await self._job(name) for name in await jobs_named(self._redis, job_id)]
        return [job for job in found if job is not None]

    async def cancel(self, job: KnownJob, reason: str) -> bool:
        """Have a job end FAILED soon; see `Ledger.cancel`."""
        async with self._in_time():
            return await Ledger(self._redis, job.name).cancel(reason)

    async def lengths(self) -> Lengths:
        """Count what waits."""
        async with self._in_time(), self._redis.pipeline(transaction=False) as pipe:
            pipe.llen(QUEUE)
            pipe.llen(BATCH_QUEUE)
            pipe.zcard(UNACKED)
            pipe.scard(UNDELIVERED)
            pipe.hlen(DEAD)
            known = [*self._ends_since]
            pipe.smismember(UNDELIVERED, ["", *known])  # it asks for at least one
            pipe.srandmember(UNDELIVERED, _MOST_ENDS_KNOWN)
            hashing, batches, taken, undelivered, dead, (_, *are_there), some = await pipe.execute()
        oldest_seconds = self._note_ends([*compress(known, are_there), *some])
        return Lengths({QUEUE: hashing, BATCH_QUEUE: batches}, taken, undelivered, oldest_seconds, dead)

    async def check(self) -> None:
        """Make sure that the broker answers."""
        async with self._in_time():
            await self._redis.ping()  # type: ignore[misc]  # as above

    def _note_ends(self, names: Iterable[str]) -> float:
        """Take note of undelivered ends, those that are known first; give the oldest one's age in seconds."""
        now = monotonic()
        known = islice(dict.fromkeys(names), _MOST_ENDS_KNOWN)
        self._ends_since = {name: self._ends_since.get(name, now) for name in known}
        return now - min(self._ends_since.values(), default=now)

    async def _job(self, name: str) -> KnownJob | None:
        task_id = await self._redis.get(_task_key(name))
        snapshot = await Ledger(self._redis, name).snapshot()
        if snapshot is None and task_id is None:
            return None
        return KnownJob(name, task_id, snapshot or Snapshot())

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        # Not by redis-py's own timeout; `worker.queueing.broker` tells why.
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                yield
        except (redis.exceptions.RedisError, OSError) as error:
            if not self._is_away:
                _log.warning("The broker does not answer", reason=str(error) or type(error).__name__)
            self._is_away = True
            raise BrokerAwayError from error
        if self._is_away:
            _log.info("The broker is back")
        self._is_away = False


@asynccontextmanager
async def open_intake(url: str) -> AsyncIterator[Intake]:
    """Open an intake; the broker need not be there.

    Args:
        url: Valkey or Redis with its password; with rediss:// the certificate is verified.
    """
    pool = connection_pool(url, connect_seconds=_CONNECT_SECONDS)
    async with Redis.from_pool(pool) as redis_client:
        yield Intake(redis_client)


def _task_key(job: str) -> str:
    return f"{job}:task"
