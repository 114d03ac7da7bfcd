"""The way of one file: record, storage, metadata, object version, digests, reports."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.hashing.algorithms import Algorithm
from worker.hashing.lanes import LanePool
from worker.jobs import messages
from worker.jobs.object_digests import hash_object
from worker.jobs.plan import check_hashable
from worker.libsafe.client import PlatformClient
from worker.libsafe.json_text import format_json_item
from worker.libsafe.models import FileRecord, MetadataItem, Storage
from worker.libsafe.reports import HashReport, MessageReport, Report
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


@dataclass(frozen=True, slots=True)
class HashedFile:
    """What is known of a file once its object was read."""

    record: FileRecord
    metadata: Sequence[MetadataItem] | None
    size_bytes: int
    digests: dict[str, bytes]

    def reports(self, algorithms: Sequence[Algorithm]) -> list[Report]:
        """Give what the platform is told of this file, in the order of its own sample function."""
        file_id = self.record.id
        about = (
            messages.no_metadata_message(file_id)
            if self.metadata is None
            else format_json_item(self.metadata)
        )
        hexes = {algorithm: self.digests[algorithm.name].hex() for algorithm in algorithms}
        return [
            MessageReport(about, file_id=file_id),
            *(
                MessageReport(messages.digest_message(algorithm.label, text), file_id=file_id)
                for algorithm, text in hexes.items()
            ),
            *(HashReport(file_id, algorithm.name, text) for algorithm, text in hexes.items()),
        ]


class FileRun:
    """Hashes the files of one task; it keeps the storages that the task has met."""

    def __init__(
        self,
        *,
        client: PlatformClient,
        stores: Stores,
        lanes: LanePool,
        routes: Routes,
        algorithms: Sequence[Algorithm],
        ranges_in_flight: int,
        offline_storage_class_ids: frozenset[str],
    ) -> None:
        self._client = client
        self._stores = stores
        self._lanes = lanes
        self._routes = routes
        self._algorithms = algorithms
        self._ranges_in_flight = ranges_in_flight
        self._offline_storage_class_ids = offline_storage_class_ids
        self._storages: dict[str, Storage] = {}
        self._asking_for_storage = asyncio.Lock()

    async def hash_file(self, record: FileRecord, on_bytes: Callable[[int], None]) -> HashedFile:
        """Read the file's object once and calculate its digests.

        Args:
            record: The platform's record; its size is not relied on, the object's is.
            on_bytes: Is told how many bytes were read, range by range.

        Raises:
            FileNotHashedError: The record stands for no readable bytes, or there are no credentials.
            StorageError: The object can't be read.
            HashingError: A hasher failed.
            LibsafeError: The platform did not answer for the metadata or the storage.
        """
        check_hashable(record, self._offline_storage_class_ids)
        metadata = await self._client.metadata(record.id)
        storage = await self._storage(record.container_id)
        store = await self._stores.store(storage)
        key = self._routes.key_of_object(
            key_prefix=storage.key_prefix,
            container_id=record.container_id,
            file_id=record.id,
            path=record.path,
        )
        hashed = await hash_object(
            store,
            ObjectAddress(storage.bucket, key),
            self._lanes,
            self._algorithms,
            ranges_in_flight=self._ranges_in_flight,
            on_bytes=on_bytes,
        )
        return HashedFile(record, metadata, hashed.version.size_bytes, hashed.by_name)

    async def _storage(self, container_id: str) -> Storage:
        """Ask for a container's storage once, however many files want it at the same time."""
        async with self._asking_for_storage:
            if container_id not in self._storages:
                container = await self._client.container(container_id)
                self._storages[container_id] = await self._client.storage(container.storage_id)
        return self._storages[container_id]
