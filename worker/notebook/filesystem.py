"""Files as streams: where a request's files are, and how one of them is opened."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from worker.jobs.errors import FileNotHashedError
from worker.jobs.file_objects import FileObjects
from worker.jobs.plan import FileReference, check_hashable
from worker.libsafe.errors import LibsafeError
from worker.libsafe.models import FileRecord
from worker.notebook.driver import Driver
from worker.notebook.errors import UnreadableFileError
from worker.notebook.job import unread_message
from worker.storage.errors import StorageError
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.store import ObjectStore
from worker.storage.stream import ObjectStream, open_stream


class Storage:
    """Where the files of a request are; those of another container are found too.

    Args:
        driver: To the platform that knows.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        connections = driver.connections
        self._objects = FileObjects(driver.client, connections.stores, connections.routes)

    def __repr__(self) -> str:
        return f"<Storage of {self._driver!r}>"

    def open(self, file: FileRecord) -> ObjectStream:
        """Open a file's object for reading; see `S3File.get_stream`."""
        settings = self._driver.connections.settings
        store, address = self._driver.ask(self._find(file))
        return open_stream(
            _FileSource(store, self, file),
            address,
            self._driver.connections.background.start,
            name=file.fullpath,
            range_bytes=settings.hashing.slot_bytes,
            ranges_in_flight=settings.reading.ranges_in_flight,
        )

    @asynccontextmanager
    async def telling(self, file: FileRecord) -> AsyncIterator[None]:
        """Tell the job's users why a file can't be read, and raise it in words that name the file."""
        try:
            yield
        except (FileNotHashedError, StorageError, LibsafeError) as error:
            name = f"File {file.id} ({file.fullpath})"
            await self._driver.job.note_unread(FileReference(name, file.id, file, None), error)
            raise UnreadableFileError(unread_message(name, error)) from None

    async def _find(self, file: FileRecord) -> tuple[ObjectStore, ObjectAddress]:
        async with self.telling(file):
            offline = self._driver.connections.settings.worker.offline_storage_class_ids
            check_hashable(file, frozenset(offline))
            return await self._objects.find(file)


class _FileSource:
    """Reads ranges of one file; what goes wrong is told."""

    def __init__(self, store: ObjectStore, storage: Storage, file: FileRecord) -> None:
        self._store = store
        self._storage = storage
        self._file = file

    async def read_first(
        self, address: ObjectAddress, destination: memoryview, on_pinned: Callable[[ObjectVersion], None]
    ) -> None:
        async with self._storage.telling(self._file):
            await self._store.read_first(address, destination, on_pinned)

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        async with self._storage.telling(self._file):
            await self._store.read_range(version, start, destination)


class S3File:
    """Files on S3."""

    @staticmethod
    def get_stream(storage: Storage, file: FileRecord) -> ObjectStream:
        """Open a file's object for reading.

        Args:
            storage: The request's.
            file: One of the request's files, or what `File.get` gives.

        Returns:
            A seekable stream, as `open(path, "rb")` gives one. Never None: a file that can't be opened is an
            error, which the job's messages tell too.

        Raises:
            UnreadableFileError: There is no such object, access is denied, it is off-line, and the like.
        """
        return storage.open(file)


class S3:
    """The file system of the platform's storages."""

    File = S3File
    Storage = Storage
