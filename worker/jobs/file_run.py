"""The way of one file: record, storage, metadata, object version, digests, reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker import metrics
from worker.hashing.algorithms import Algorithm
from worker.hashing.lanes import LanePool
from worker.jobs import messages
from worker.jobs.file_objects import FileObjects, Stores
from worker.jobs.object_digests import hash_object
from worker.jobs.plan import check_hashable
from worker.libsafe.client import PlatformClient
from worker.libsafe.json_text import format_json_item
from worker.libsafe.models import FileRecord, MetadataItem
from worker.libsafe.reports import HashReport, MessageReport, Report
from worker.libsafe.routes import Routes


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
        self._objects = FileObjects(client, stores, routes)
        self._lanes = lanes
        self._algorithms = algorithms
        self._ranges_in_flight = ranges_in_flight
        self._offline_storage_class_ids = offline_storage_class_ids

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
        store, address = await self._objects.find(record)
        hashed = await hash_object(
            store,
            address,
            self._lanes,
            self._algorithms,
            ranges_in_flight=self._ranges_in_flight,
            on_bytes=on_bytes,
        )
        metrics.STAGE_SECONDS.labels("read").observe(hashed.read_seconds)
        metrics.STAGE_SECONDS.labels("hash").observe(hashed.hash_seconds)
        return HashedFile(record, metadata, hashed.version.size_bytes, hashed.by_name)
