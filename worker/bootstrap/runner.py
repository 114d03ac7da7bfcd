"""What brings messages to their fate, and what runs jobs, from the settings."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from worker import metrics
from worker.bootstrap.platforms import ConfiguredPlatforms, make_routes
from worker.bootstrap.stores import ConfiguredStores
from worker.hashing.errors import HashingError
from worker.hashing.lanes import LanePool
from worker.hashing.registry import resolve
from worker.jobs.file_objects import Stores
from worker.jobs.runner import JobRunner
from worker.jobs.tools import JobTools
from worker.libsafe.client import open_http
from worker.libsafe.routes import Routes
from worker.queueing.assignment import Limits
from worker.queueing.broker import open_broker
from worker.queueing.dead_letters import DeadLetters
from worker.queueing.deliveries import Deliveries
from worker.queueing.lease import Leases
from worker.queueing.reconciler import Reconciler
from worker.settings import (
    HashingSettings,
    Settings,
    SettingsError,
)


@asynccontextmanager
async def open_deliveries(settings: Settings) -> AsyncIterator[Deliveries]:
    """Open everything that bringing messages to their fate takes; undelivered ends are looked for meanwhile.

    Raises:
        SettingsError: A route template or a default algorithm is wrong.
    """
    url = settings.broker.address
    async with open_runner(settings) as runner, open_broker(url) as redis:
        leases = Leases(redis, settings.worker.lease_seconds)
        limits = Limits(settings.limits.container_batches, settings.limits.platform_tasks)
        deliveries = Deliveries(redis, leases, runner, limits=limits, most_attempts=settings.worker.attempts)
        reconciler = Reconciler(
            redis, deliveries, DeadLetters(url), pause_seconds=settings.broker.sweep_seconds
        )
        reconciling = asyncio.create_task(reconciler.run(), name="reconciler")
        try:
            yield deliveries
        finally:
            reconciling.cancel()
            await asyncio.wait([reconciling])


@asynccontextmanager
async def open_runner(settings: Settings) -> AsyncIterator[JobRunner]:
    """Open everything that jobs share: lanes, connections to platforms, object stores.

    Raises:
        SettingsError: A route template or a default algorithm is wrong.
    """
    routes = make_routes(settings.api)
    check_algorithms(settings.hashing)
    async with AsyncExitStack() as stack:
        lanes = await stack.enter_async_context(lane_pool(settings.hashing))
        http = await stack.enter_async_context(open_http(max_connections=settings.api.connections))
        stores = await stack.enter_async_context(ConfiguredStores(settings))
        _tell_of(lanes, stores)
        tools = job_tools(settings, stores=stores, lanes=lanes, routes=routes)
        yield JobRunner(ConfiguredPlatforms(settings.api, routes, http), tools)


def _tell_of(lanes: LanePool, stores: ConfiguredStores) -> None:
    """Have Prometheus told of what all jobs share."""
    for name, what, value in (
        ("hash_worker_slots", "Slots that there are.", lambda: lanes.slots.count),
        ("hash_worker_slots_free", "Slots that hold no range.", lambda: lanes.slots.free_count),
        ("hash_worker_lanes", "Lanes that there are.", lambda: lanes.lane_count),
        ("hash_worker_lanes_busy", "Lanes that have work in hand.", lambda: lanes.busy_count),
    ):
        metrics.tell(name, what, value)
    for name, what, value in (
        ("hash_worker_lane_deaths", "Lanes that ended by themselves.", lambda: lanes.deaths),
        ("hash_worker_ranges_retried", "Requests to storages that were made again.", lambda: stores.retries),
    ):
        metrics.tell(name, what, value, is_counter=True)


def lane_pool(hashing: HashingSettings) -> LanePool:
    """Make the pool of lanes and slots, not yet running."""
    return LanePool(
        lane_count=hashing.lanes or os.cpu_count() or 1,
        slot_count=hashing.slots,
        slot_bytes=hashing.slot_bytes,
    )


def job_tools(settings: Settings, *, stores: Stores, lanes: LanePool, routes: Routes) -> JobTools:
    """Put together what all jobs share."""
    return JobTools(
        stores=stores,
        lanes=lanes,
        routes=routes,
        default_algorithms=settings.hashing.algorithms,
        files_at_once=settings.worker.files_at_once,
        batch_files=settings.worker.batch_files,
        batch_bytes=settings.worker.batch_bytes,
        ranges_in_flight=settings.reading.ranges_in_flight,
        offline_storage_class_ids=frozenset(settings.worker.offline_storage_class_ids),
        offline_is_error=settings.worker.offline_is_error,
    )


def check_algorithms(hashing: HashingSettings) -> None:
    """Make sure that the default algorithms can be calculated.

    Raises:
        SettingsError: One of them is unknown, or can't be used.
    """
    try:
        resolve(hashing.algorithms)
    except HashingError as error:
        raise SettingsError(f"Wrong settings: hashing.algorithms: {error}") from None
