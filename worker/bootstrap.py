"""The one place that knows every class: it puts a worker together from the settings."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Self

import aiohttp
import click
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker
from click.core import ParameterSource
from pydantic import HttpUrl, ValidationError
from redis.asyncio import Redis

from worker import metrics
from worker.hashing.errors import HashingError
from worker.hashing.lanes import LanePool
from worker.hashing.registry import added_names, resolve
from worker.health import serve_health
from worker.jobs.errors import FileNotHashedError
from worker.jobs.file_objects import Stores
from worker.jobs.progress import Show
from worker.jobs.runner import JobRunner
from worker.jobs.stopping import Stop
from worker.jobs.tools import JobTools
from worker.libsafe.addresses import check_host
from worker.libsafe.breaker import Breaker
from worker.libsafe.client import PlatformClient, open_http
from worker.libsafe.errors import JobAddress
from worker.libsafe.models import Storage
from worker.libsafe.outbox import Outbox
from worker.libsafe.reports import ReportPolicy
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.queueing.app import BATCH_QUEUE, QUEUE, make_app
from worker.queueing.assignment import Limits
from worker.queueing.broker import connection_pool, open_broker
from worker.queueing.dead_letters import DeadLetters
from worker.queueing.deliveries import Deliveries
from worker.queueing.fate import Verdict
from worker.queueing.lease import Leases
from worker.queueing.loop_thread import LoopThread
from worker.queueing.progress_events import ProgressEvents
from worker.queueing.pulse import Pulse
from worker.queueing.reconciler import Reconciler
from worker.queueing.running import stop_after_grace
from worker.queueing.tasks import register
from worker.settings import (
    ANY_STORAGE,
    ApiSettings,
    HashingSettings,
    HealthSettings,
    ReadingSettings,
    Settings,
    SettingsError,
    StorageSettings,
)
from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.store import ObjectStore

# A slot holds a range that is being read, so more connections than slots serve only HEAD requests.
_CONNECTIONS_BESIDE_SLOTS = 8
_PING_SECONDS = 2
_DEFAULT_REGION = "us-east-1"


def run_worker(settings: Settings, celery_options: Sequence[str] = ()) -> int:
    """Run a Celery worker until it is told to stop; lanes are warm before the first task.

    Args:
        settings: The settings.
        celery_options: More options of `celery worker`, as on its command line; neither the pool nor
            `--detach`.

    Returns:
        The worker's exit status: 0 if it was told to stop, else what Celery gives for its failure.

    Raises:
        SettingsError: A route template, a default algorithm or an option of Celery is wrong.
    """
    url = settings.broker.address
    app = make_app(
        url,
        visibility_timeout_seconds=settings.broker.visibility_timeout_seconds,
        sweep_seconds=settings.broker.sweep_seconds,
        batches_at_once=settings.worker.places_for_batches,
    )
    try:
        command = _celery_command(app, settings, celery_options)
        with ProgressEvents() as progress, LoopThread(lambda: _open_service(settings, app.pulse)) as loop:
            stop_after_grace(app, settings.worker.grace_seconds)
            app.pulse.watch()
            pause_seconds = settings.worker.pause_seconds
            register(app, _InLoop(loop), DeadLetters(url), pause_seconds=pause_seconds, show=progress.show)
            # Not app.worker_main, which drops the status.
            with command:
                celery_worker.invoke(command)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        raise SettingsError(f"Wrong option of celery worker: {error.format_message()}") from None
    return 0


def run_flower(settings: Settings, more_options: Sequence[str] = ()) -> None:
    """Run Flower until it is told to stop.

    Args:
        settings: The settings.
        more_options: Of `celery flower`, as on its command line.

    Raises:
        SettingsError: Flower is not installed, has no password, or can't be begun.
    """
    if settings.flower.password is None:
        raise SettingsError("Flower needs flower.password: whoever sees it can end jobs; set it.")
    try:
        from worker.queueing import flower  # noqa: PLC0415 - an extra that workers do without
    except ModuleNotFoundError as error:
        raise SettingsError(f"Flower is not installed ({error.name}): install the extra `flower`.") from None
    try:
        flower.run_flower(
            make_app(settings.broker.address),
            host=settings.flower.host,
            port=settings.flower.port,
            user=settings.flower.user,
            password=settings.flower.password.get_secret_value(),
            database=settings.flower.database,
            more_options=more_options,
        )
    except flower.FlowerError as error:
        raise SettingsError(str(error)) from None


class _InLoop:
    """Hands messages to the deliveries in the event loop."""

    def __init__(self, loop: LoopThread[Deliveries]) -> None:
        self._loop = loop
        self.call = loop.call

    def handle(self, document: Any, delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Wait for a message's fate; see `worker.queueing.tasks.Handler`."""
        return self._loop.run(self._loop.resource.handle(document, delivery_tag, stop, show))

    def handle_batch(self, document: Any, delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Wait for a message's fate; see `worker.queueing.tasks.Handler`."""
        return self._loop.run(self._loop.resource.handle_batch(document, delivery_tag, stop, show))


def _celery_command(app: Celery, settings: Settings, options: Sequence[str]) -> click.Context:
    """Read the options of `celery worker`; they win over what the settings say."""
    command: click.Context = celery_worker.make_context(
        "worker",
        list(options),
        # Its banner is no log line.
        obj=CLIContext(app, no_color=False, workdir=None, quiet=True),
        default_map={
            "concurrency": settings.worker.jobs_at_once,
            "queues": f"{QUEUE},{BATCH_QUEUE}",
            "loglevel": settings.log.level,
        },
    )
    if command.get_parameter_source("pool") is ParameterSource.COMMANDLINE:
        # Our own: no other can be told to stop a job, and a forked child may not even start lanes.
        raise click.UsageError(
            "leave out -P and --pool, jobs run in a pool of ours; worker.jobs_at_once sets how many."
        )
    if command.params["detach"]:
        # It would begin anew as `celery worker`, which knows neither our task nor our lanes.
        raise click.UsageError("leave out -D and --detach; a service manager or compose runs it behind.")
    return command


@asynccontextmanager
async def _open_service(settings: Settings, pulse: Pulse) -> AsyncIterator[Deliveries]:
    """Open the deliveries, and tell beside them how the worker is.

    Raises:
        SettingsError: As `open_deliveries`, or the worker can't listen where health.host and .port say.
    """
    pool = connection_pool(settings.broker.address, connect_seconds=_PING_SECONDS)
    async with AsyncExitStack() as stack:
        deliveries = await stack.enter_async_context(open_deliveries(settings))
        turning = asyncio.create_task(pulse.turn(await stack.enter_async_context(Redis.from_pool(pool))))
        stack.callback(turning.cancel)
        if settings.health.port:
            try:
                await stack.enter_async_context(_serve_health(settings.health, pulse))
            except OSError as error:
                where = f"{settings.health.host}, port {settings.health.port}"
                # asyncio wraps the system's own words.
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise SettingsError(
                    f"The worker can't listen at {where}: {reason}; set health.host and health.port."
                ) from None
        yield deliveries


def _serve_health(health: HealthSettings, pulse: Pulse) -> AbstractAsyncContextManager[int]:
    metrics.tell(
        "hash_worker_consumer_silent_seconds",
        "Time since the consumer has last heard from the broker, or had no place for a message.",
        lambda: pulse.silent_seconds,
    )
    return serve_health(
        health.host,
        health.port,
        why_not_live=pulse.why_not_live,
        why_not_ready=pulse.why_not_ready,
        metrics=metrics.text,
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


def _tell_of(lanes: LanePool, stores: "ConfiguredStores") -> None:
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


class ConfiguredPlatforms:
    """The platforms that the settings allow."""

    def __init__(self, api: ApiSettings, routes: Routes, http: aiohttp.ClientSession) -> None:
        self._api = api
        self._routes = routes
        self._http = http
        self._breakers: dict[str, Breaker] = {}

    def client(self, address: JobAddress) -> PlatformClient:
        """Give a client; see `Platforms.client`."""
        check_host(address.api_url, self._api.allowed_hosts)
        return PlatformClient(
            address.api_url,
            address.key,
            self._routes,
            self._http,
            breaker=self._breakers.setdefault(address.api_url, Breaker()),
            attempts=self._api.attempts,
            timeout_seconds=self._api.timeout_seconds,
        )

    def sender(self, client: PlatformClient, job_id: str, outbox: Outbox) -> ReportSender:
        """Give a sender; see `Platforms.sender`."""
        return ReportSender(client, job_id, outbox, self.policy())

    def policy(self) -> ReportPolicy:
        """Say how reports are told by now: programs may add algorithms while we run."""
        # Whoever adds an algorithm wants it stored.
        hash_names = {name: name for name in added_names()} | self._api.hash_names
        return ReportPolicy(message_types=self._api.message_types, hash_names=hash_names)


class ConfiguredStores:
    """The storages that the settings hold credentials for, each opened at its first use and kept open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._open: dict[str, ObjectStore] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def store(self, storage: Storage) -> ObjectStore:
        """Give the open store; see `Stores.store`."""
        configured = self._settings.storage(storage.id)
        if configured is None:
            raise FileNotHashedError(
                "no_credentials",
                f"the worker's settings hold no S3 credentials for storage {storage.id}; add them there.",
            )
        self._check_endpoint(storage, configured)
        async with self._opening:
            if storage.id not in self._open:
                self._open[storage.id] = await self._opened(storage, configured)
        return self._open[storage.id]

    @property
    def retries(self) -> int:
        """How many requests to all of them were made again."""
        return sum(store.retries for store in self._open.values())

    def _check_endpoint(self, storage: Storage, configured: StorageSettings) -> None:
        """Refuse to look for a storage's files where the platform does not keep them.

        A table of the storage's own is right whatever the record says: within a network the address may be
        another. `default` was written for no storage in particular, and at its endpoint another object may
        have the same name.
        """
        if storage.endpoint is None:
            return
        if configured.endpoint_url is None:
            raise FileNotHashedError(
                "endpoint_not_allowed",
                f"the worker's settings name no endpoint for storage {storage.id}, which is at "
                f"{storage.endpoint}, says the platform; set endpoint_url, S3 keys are sent nowhere else.",
            )
        is_default = configured is self._settings.storages.get(ANY_STORAGE)
        if is_default and not _is_same_place(storage.endpoint, configured.endpoint_url):
            raise FileNotHashedError(
                "endpoint_not_allowed",
                f"storage {storage.id} is at {storage.endpoint}, says the platform, and storages.default of "
                f"the worker's settings is at {configured.endpoint_url}; add storages.{storage.id.lower()}.",
            )

    async def _opened(self, storage: Storage, configured: StorageSettings) -> ObjectStore:
        access = store_access(configured, storage.region)
        limits = store_limits(self._settings.reading, self._settings.hashing.slots)
        try:
            return await self._stack.enter_async_context(ObjectStore(access, limits))
        except (ValueError, OSError) as error:
            raise FileNotHashedError(
                "storage_not_opened",
                f"storage {storage.id} cannot be opened; correct its settings or its record: {error}",
            ) from error


def _is_same_place(endpoint: str, configured: HttpUrl) -> bool:
    """Tell whether scheme, host and port are the same; a text that is no such address is another place."""
    try:
        named = HttpUrl(endpoint)
    except ValidationError:
        return False
    return (named.scheme, named.host, named.port) == (configured.scheme, configured.host, configured.port)


def check_algorithms(hashing: HashingSettings) -> None:
    """Make sure that the default algorithms can be calculated.

    Raises:
        SettingsError: One of them is unknown, or can't be used.
    """
    try:
        resolve(hashing.algorithms)
    except HashingError as error:
        raise SettingsError(f"Wrong settings: hashing.algorithms: {error}") from None


def make_routes(api: ApiSettings) -> Routes:
    """Make the routes from the settings.

    Raises:
        SettingsError: There is no such route, or its template can't be filled.
    """
    try:
        return Routes(**api.routes)
    except TypeError:
        unknown = ", ".join(sorted(api.routes.keys() - Routes.__dataclass_fields__.keys()))
        raise SettingsError(f"Wrong settings: api.routes: there is no route {unknown}.") from None
    except ValueError as error:
        raise SettingsError(f"Wrong settings: api.routes: {error}") from None


def store_access(storage: StorageSettings, region: str | None) -> StoreAccess:
    """Say where a storage is and as whom to read it; the settings' own region wins over the platform's."""
    return StoreAccess(
        endpoint_url=None if storage.endpoint_url is None else str(storage.endpoint_url).rstrip("/"),
        region=storage.region or region or _DEFAULT_REGION,
        access_key=storage.access_key,
        secret_key=storage.secret_key,
        session_token=storage.session_token,
        addressing_style=storage.addressing_style,
        verify_tls=storage.verify_tls if isinstance(storage.verify_tls, bool) else str(storage.verify_tls),
    )


def store_limits(reading: ReadingSettings, slots: int) -> StoreLimits:
    """Say how hard a storage may be asked."""
    return StoreLimits(
        max_connections=slots + _CONNECTIONS_BESIDE_SLOTS,
        connect_timeout_seconds=reading.connect_timeout_seconds,
        stall_timeout_seconds=reading.stall_timeout_seconds,
        floor_bytes_per_second=reading.floor_bytes_per_second,
        attempts=reading.attempts,
    )
