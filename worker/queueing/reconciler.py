"""The reconciler: delivers the ends of jobs and batches that their workers did not deliver."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import structlog
from redis.asyncio import Redis

from worker.jobs.batches import Batches
from worker.libsafe.errors import (
    HostNotAllowedError,
    JobAddress,
    JobTakenOverError,
    LibsafeError,
    PlatformBusyError,
    TransientLibsafeError,
)
from worker.libsafe.names import UNDELIVERED, batch_named
from worker.libsafe.outbox import undelivered
from worker.queueing.app import TASK
from worker.queueing.dead_letters import DeadLetter, DeadLetters
from worker.queueing.deliveries import Deliveries

_AT_ONCE = 4
_HOST_PAUSE_SECONDS = 600

_log = structlog.get_logger(__name__)


class Reconciler:
    """Looks for undelivered ends again and again; every worker has one, the leases keep them apart.

    Args:
        redis: The broker's, with answers decoded.
        deliveries: Delivers.
        dead_letters: Where an end goes that the platform will not take.
        pause_seconds: Between two looks.
    """

    def __init__(
        self, redis: Redis, deliveries: Deliveries, dead_letters: DeadLetters, *, pause_seconds: float
    ) -> None:
        self._redis = redis
        self._deliveries = deliveries
        self._dead_letters = dead_letters
        self._pause_seconds = pause_seconds
        # Each platform has its own, so that one which is away holds up no other.
        self._permits: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_AT_ONCE))
        self._under_way: set[str] = set()
        self._not_before: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Reconciler, looks each {self._pause_seconds:g} s>"

    async def run(self) -> None:
        """Look and deliver for ever; to be cancelled."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                for job, address in (await self._found()).items():
                    if job not in self._under_way and self._may_try(job):
                        self._under_way.add(job)
                        deliveries.create_task(self._deliver(job, address))
                await asyncio.sleep(self._pause_seconds)

    async def _found(self) -> Mapping[str, JobAddress]:
        try:
            return await undelivered(self._redis)
        except Exception:  # noqa: BLE001 - the next look may be better
            _log.exception("Undelivered ends can't be looked for")
            return {}

    def _may_try(self, job: str) -> bool:
        return asyncio.get_running_loop().time() >= self._not_before.get(job, 0)

    async def _deliver(self, job: str, address: JobAddress) -> None:
        try:
            async with self._permits[address.api_url]:
                await self._try_to_deliver(job, address)
        except Exception:  # noqa: BLE001 - the others go on, and the next look may be better
            _log.exception("An end met an error of the hash worker itself", job=job)
        finally:
            self._under_way.discard(job)

    async def _try_to_deliver(self, job: str, address: JobAddress) -> None:
        try:
            await self._deliveries.deliver(job, address)
        except JobTakenOverError:
            return
        except TransientLibsafeError as error:
            asked_for = error.retry_after_seconds if isinstance(error, PlatformBusyError) else None
            self._not_before[job] = asyncio.get_running_loop().time() + (asked_for or 0)
            return
        except HostNotAllowedError as error:
            # Another worker's settings may name it.
            _log.warning("The end of a job is left to others", job_id=address.job_id, reason=str(error))
            self._not_before[job] = asyncio.get_running_loop().time() + _HOST_PAUSE_SECONDS
            return
        except LibsafeError as error:
            _log.warning("The end of a job can't be delivered", job_id=address.job_id, reason=str(error))
            await self._put_aside(job, address, str(error))
            await self._redis.srem(UNDELIVERED, job)  # type: ignore[misc]  # redis types it for both its clients
        self._not_before.pop(job, None)

    async def _put_aside(self, name: str, address: JobAddress, reason: str) -> None:
        job, batch = batch_named(name)
        letter = DeadLetter(reason=reason, task=TASK, job_id=address.job_id, job=job)
        document = await Batches(self._redis, job, most_sent=0).document()
        if document is not None:
            letter = replace(letter, payload=json.loads(document))
            await asyncio.to_thread(self._dead_letters.park, letter)
        elif not batch:
            await asyncio.to_thread(self._dead_letters.keep, letter)
