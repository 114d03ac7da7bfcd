"""The one place that knows every class: it puts a worker together from the settings."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

import aiohttp

from worker.hashing.algorithms import resolve
from worker.hashing.errors import UnknownAlgorithmError
from worker.hashing.lanes import LanePool
from worker.jobs.errors import FileNotHashedError
from worker.jobs.run import JobTools
from worker.jobs.runner import JobRunner
from worker.libsafe.addresses import check_host
from worker.libsafe.client import PlatformClient, open_http
from worker.libsafe.errors import JobAddress
from worker.libsafe.models import Storage
from worker.libsafe.reports import ReportPolicy
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.queueing.app import QUEUE, make_app
from worker.queueing.loop_thread import LoopThread
from worker.queueing.tasks import register
from worker.settings import ApiSettings, ReadingSettings, Settings, SettingsError, StorageSettings
from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.store import ObjectStore

# A slot holds a range that is being read, so more connections than slots serve only HEAD requests.
_CONNECTIONS_BESIDE_SLOTS = 8
_DEFAULT_REGION = "us-east-1"


def run_worker(settings: Settings, celery_options: Sequence[str] = ()) -> None:
    """Run a Celery worker until it is told to stop; lanes are warm before the first task.

    Args:
        settings: The settings.
        celery_options: More options of `celery worker`, as on its command line.

    Raises:
        SystemExit: The worker has stopped.
        SettingsError: A route template or a default algorithm is wrong.
    """
    app = make_app(settings.broker.url.get_secret_value())
    with LoopThread(lambda: open_runner(settings)) as loop:
        register(app, lambda document: loop.run(loop.resource.run(document)))
        concurrency = settings.worker.jobs_at_once
        app.worker_main(
            [
                "worker",
                # Celery's default pool forks, and a forked child may not start lanes.
                "--pool=threads",
                f"--concurrency={concurrency}",
                f"--queues={QUEUE}",
                f"--loglevel={settings.log.level}",
                *celery_options,
            ]
        )


@asynccontextmanager
async def open_runner(settings: Settings) -> AsyncIterator[JobRunner]:
    """Open everything that jobs share: lanes, connections to platforms, object stores.

    Raises:
        SettingsError: A route template or a default algorithm is wrong.
    """
    routes = make_routes(settings.api)
    try:
        resolve(settings.hashing.algorithms)
    except UnknownAlgorithmError as error:
        raise SettingsError(f"Wrong settings: hashing.algorithms: {error}") from None
    async with AsyncExitStack() as stack:
        lanes = await stack.enter_async_context(
            LanePool(
                lane_count=settings.hashing.lanes or os.cpu_count() or 1,
                slot_count=settings.hashing.slots,
                slot_bytes=settings.hashing.slot_bytes,
            )
        )
        http = await stack.enter_async_context(open_http(max_connections=settings.api.connections))
        stores = await stack.enter_async_context(ConfiguredStores(settings))
        tools = JobTools(
            stores=stores,
            lanes=lanes,
            routes=routes,
            default_algorithms=settings.hashing.algorithms,
            files_at_once=settings.worker.files_at_once,
            ranges_in_flight=settings.reading.ranges_in_flight,
            offline_storage_class_ids=frozenset(settings.worker.offline_storage_class_ids),
        )
        yield JobRunner(ConfiguredPlatforms(settings.api, routes, http), tools)


class ConfiguredPlatforms:
    """The platforms that the settings allow."""

    def __init__(self, api: ApiSettings, routes: Routes, http: aiohttp.ClientSession) -> None:
        self._api = api
        self._routes = routes
        self._http = http
        self._policy = ReportPolicy(message_types=api.message_types, hash_names=api.hash_names)

    def client(self, address: JobAddress) -> PlatformClient:
        """Give a client; see `Platforms.client`."""
        check_host(address.api_url, self._api.allowed_hosts)
        return PlatformClient(
            address.api_url,
            address.key,
            self._routes,
            self._http,
            attempts=self._api.attempts,
            timeout_seconds=self._api.timeout_seconds,
        )

    def sender(self, client: PlatformClient, job_id: str, token: str) -> ReportSender:
        """Give a sender; see `Platforms.sender`."""
        return ReportSender(client, job_id, self._policy, token=token)


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
        if storage.endpoint is not None and configured.endpoint_url is None:
            raise FileNotHashedError(
                "endpoint_not_allowed",
                f"the worker's settings name no endpoint for storage {storage.id}, which is at "
                f"{storage.endpoint}, says the platform; set endpoint_url, S3 keys are sent nowhere else.",
            )
        async with self._opening:
            if storage.id not in self._open:
                self._open[storage.id] = await self._stack.enter_async_context(
                    ObjectStore(
                        store_access(configured, storage.region),
                        store_limits(self._settings.reading, self._settings.hashing.slots),
                    )
                )
        return self._open[storage.id]


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
        read_timeout_seconds=reading.stall_timeout_seconds,
        slowest_bytes_per_second=reading.floor_bytes_per_second,
        attempts=reading.attempts,
    )
