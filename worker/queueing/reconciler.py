"""The reconciler: delivers the ends of jobs whose worker died, or let go, before the platform had them."""

import asyncio

import structlog
from redis.asyncio import Redis

from worker.libsafe.errors import (
    JobAddress,
    JobTakenOverError,
    LibsafeError,
    PlatformBusyError,
    TransientLibsafeError,
)
from worker.libsafe.outbox import UNDELIVERED, undelivered
from worker.queueing.dead_letters import DeadLetter, DeadLetters
from worker.queueing.deliveries import Deliveries

_AT_ONCE = 8

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
        self._permits = asyncio.Semaphore(_AT_ONCE)
        self._not_before: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Reconciler, looks each {self._pause_seconds:g} s>"

    async def run(self) -> None:
        """Look and deliver for ever; to be cancelled."""
        while True:
            try:
                found = await undelivered(self._redis)
                async with asyncio.TaskGroup() as group:
                    for job, address in found.items():
                        group.create_task(self._deliver(job, address))
            except Exception:  # noqa: BLE001 - the next look may be better
                _log.exception("The reconciler met an error of the hash worker itself")
            await asyncio.sleep(self._pause_seconds)

    async def _deliver(self, job: str, address: JobAddress) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._not_before.get(job, 0):
            return
        async with self._permits:
            try:
                await self._deliveries.deliver(job, address)
            except JobTakenOverError:
                return
            except TransientLibsafeError as error:
                asked_for = error.retry_after_seconds if isinstance(error, PlatformBusyError) else None
                self._not_before[job] = now + (asked_for or 0)
                return
            except LibsafeError as error:
                _log.warning("The end of a job can't be delivered", job_id=address.job_id, reason=str(error))
                letter = DeadLetter(reason=str(error), job_id=address.job_id, job=job)
                await asyncio.to_thread(self._dead_letters.keep, letter)
                await self._redis.srem(UNDELIVERED, job)  # type: ignore[misc]  # redis types it for both its clients
            self._not_before.pop(job, None)
