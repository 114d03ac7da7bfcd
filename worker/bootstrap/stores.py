"""The storages that the settings hold credentials for."""

import asyncio
from contextlib import AsyncExitStack
from typing import Self

from pydantic import HttpUrl, ValidationError

from worker.jobs.errors import FileNotHashedError
from worker.libsafe.models import Storage
from worker.settings import (
    ANY_STORAGE,
    ReadingSettings,
    Settings,
    StorageSettings,
)
from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.store import ObjectStore

# A slot holds a range that is being read, so more connections than slots serve only HEAD requests.
_CONNECTIONS_BESIDE_SLOTS = 8
_DEFAULT_REGION = "us-east-1"


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
