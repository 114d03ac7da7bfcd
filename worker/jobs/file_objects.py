"""Where the objects of a job's files are."""

import asyncio
from typing import Protocol

from worker.libsafe.client import PlatformClient
from worker.libsafe.models import FileRecord, Storage
from worker.libsafe.routes import Routes
from worker.storage.object_version import ObjectAddress
from worker.storage.store import ObjectStore


class Stores(Protocol):
    """Opens the object store behind one of the platform's storages."""

    async def store(self, storage: Storage) -> ObjectStore:
        """Give the open store; the same storage again gives the same store.

        Raises:
            FileNotHashedError: The settings hold no credentials for it.
        """
        ...


class FileObjects:
    """Finds the objects of one job's files; it keeps the storages that the job has met.

    Args:
        client: To the job's platform.
        stores: What the storages' objects are read from.
        routes: With the rule for object keys.
    """

    def __init__(self, client: PlatformClient, stores: Stores, routes: Routes) -> None:
        self._client = client
        self._stores = stores
        self._routes = routes
        self._storages: dict[str, Storage] = {}
        self._asking_for_storage = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<FileObjects of {self._client!r}, {len(self._storages)} containers met>"

    async def find(self, record: FileRecord) -> tuple[ObjectStore, ObjectAddress]:
        """Tell a file's object, whose version is the current one.

        Raises:
            FileNotHashedError: There are no credentials for its storage.
            LibsafeError: The platform did not tell the storage.
        """
        storage = await self._storage(record.container_id)
        store = await self._stores.store(storage)
        key = self._routes.key_of_object(
            key_prefix=storage.key_prefix,
            container_id=record.container_id,
            file_id=record.id,
            path=record.path,
        )
        return store, ObjectAddress(storage.bucket, key)

    async def _storage(self, container_id: str) -> Storage:
        """Ask for a container's storage once, however many files want it at the same time."""
        async with self._asking_for_storage:
            if container_id not in self._storages:
                container = await self._client.container(container_id)
                self._storages[container_id] = await self._client.storage(container.storage_id)
        return self._storages[container_id]
