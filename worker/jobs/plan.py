"""Which files a job hashes: the payload's ids and paths, or its whole container.

A plan is a stream of references. A reference becomes a file record only when its turn comes, so that a
job of many files asks the platform for a few records at a time.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from worker.jobs.errors import FileNotHashedError
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import NotFoundError
from worker.libsafe.models import FileRecord, FileType
from worker.libsafe.payload import Payload


@dataclass(frozen=True, slots=True)
class FileReference:
    """One file as the payload names it.

    Args:
        name: For people.
        key: Names it among the job's files, before its record is there: its id, or its path.
        record: Asks the platform for the rest.
        may_repeat: Another reference of the plan may mean the same file: one by its id, one by its path.
    """

    name: str
    key: str
    record: Callable[[], Awaitable[FileRecord]]
    may_repeat: bool = True


async def plan(client: PlatformClient, payload: Payload) -> AsyncIterator[FileReference]:
    """Give the job's files: ids first, then paths; with neither, what the container holds.

    A file that is named by its id and by its path comes twice here; the run hashes it once. Of a
    container, folders and deleted files are passed over: nobody asked for them by name.

    Yields:
        References, in the payload's order; of a container, in the platform's.
    """
    data = payload.function_data
    for file_id in data.files.ids:
        yield _by_id(client, file_id)
    for path in data.files.paths:
        yield _by_path(client, data.container.id, path)
    if not data.files.ids and not data.files.paths and data.container.id is not None:
        async for record in client.container_files(data.container.id):
            if record.type is FileType.FILE and not record.deleted:
                yield _known(record)


def check_hashable(record: FileRecord, offline_storage_class_ids: frozenset[str]) -> None:
    """Refuse a record that stands for no readable bytes.

    Raises:
        FileNotHashedError: It is a folder, it is deleted, or its storage class is off-line.
    """
    if record.type is FileType.FOLDER:
        raise FileNotHashedError("folder", "it is a folder; name the files in it.")
    if record.deleted:
        raise FileNotHashedError("deleted", "it is deleted; restore it on the platform first.")
    if record.storage_class_id in offline_storage_class_ids:
        raise FileNotHashedError(
            "offline", "its storage class is off-line; move it to an on-line class first."
        )


def _by_id(client: PlatformClient, file_id: str) -> FileReference:
    name, key = f"File {file_id}", file_id

    async def record() -> FileRecord:
        try:
            return await client.file(file_id)
        except NotFoundError:
            raise FileNotHashedError("no_such_file", "the platform has no such file.") from None

    return FileReference(name, key, record)


def _by_path(client: PlatformClient, container_id: str | None, path: str) -> FileReference:
    name, key = f"File {path}", f"path:{path}"

    async def record() -> FileRecord:
        if container_id is None:
            raise FileNotHashedError("no_such_file", "the payload names no container to look in.")
        try:
            return await client.file_by_path(container_id, path)
        except NotFoundError:
            raise FileNotHashedError("no_such_file", f"container {container_id} has no such file.") from None

    return FileReference(name, key, record)


def _known(record: FileRecord) -> FileReference:
    async def known() -> FileRecord:
        return record

    return FileReference(f"File {record.id} ({record.fullpath})", record.id, known, may_repeat=False)
