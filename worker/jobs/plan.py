"""Which files a job is about: what its payload names, what is under folders that it names, or its container.

A plan is a stream of pages, so that a job of millions of files is planned in the memory of one page. Each
page tells where it stands in the container's list; there another run can go on, and the files of a batch are
found again with one request for a thousand of them.
"""

import asyncio
import base64
import json
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from worker.jobs.errors import CONCERNS_ALL, FileNotHashedError, is_away
from worker.jobs.selection import Selection
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import LibsafeError, NotFoundError
from worker.libsafe.models import FileRecord, FileType
from worker.libsafe.payload import Payload

_LOOKUPS_AT_ONCE = 16
# Selecting holds the loop that all jobs of the worker share: 1,000 files take a few milliseconds, but a slow
# regular expression up to half a second each.
_HOLD_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class FileReference:
    """One file of a job, as far as it is known: with its record, or with the reason why there is none.

    Args:
        name: For people.
        key: Names it among the job's files: its id; without a record, the id or `path:` and the path.
        record: The platform's, as it was when the file was planned.
        error: Why there is none.
    """

    name: str
    key: str
    record: FileRecord | None
    error: FileNotHashedError | LibsafeError | None

    @property
    def size_bytes(self) -> int:
        """Give the size in the record, which the object's need not be; 0 without a record."""
        return 0 if self.record is None else self.record.size_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """The files of one batch, and where they are found again.

    Args:
        ids: Of its files.
        paths: Of those that were named by path and have no record.
        after: The cursor before the first of them in the container's list; None is the list's beginning.
        listed: Records of the list among which they were found; 0: they were named.
    """

    ids: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    after: str | None = None
    listed: int = 0

    def as_json(self) -> str:
        """Give it as JSON, for the broker: 1,000 ids in a row take about 3 kB."""
        files = json.dumps([self.ids, self.paths], separators=(",", ":"), ensure_ascii=False)
        packed = base64.b85encode(zlib.compress(files.encode())).decode()
        return json.dumps({"files": packed, "after": self.after, "listed": self.listed})

    @classmethod
    def from_json(cls, text: str) -> "Part":
        """Read what `as_json` gave."""
        part = json.loads(text)
        ids, paths = json.loads(zlib.decompress(base64.b85decode(part["files"])))
        return cls(tuple(ids), tuple(paths), part["after"], part["listed"])


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a job's files.

    Args:
        references: What is hashed, in order; there may be none.
        after: The cursor before this page in the container's list; None is the list's beginning.
        next_after: The cursor behind it; None for named files.
        listed: Records of the list that were looked at; 0 for named files.
    """

    references: tuple[FileReference, ...]
    after: str | None = None
    next_after: str | None = None
    listed: int = 0


class Plan:
    """Goes through a job's files.

    Args:
        client: To the job's platform.
        payload: What to go through.
        page_files: Files a page.

    Attributes:
        passed_over: Files that are not hashed though the payload means them, by the code of the reason, up to
            the page that was given last.

    All that is raised, by each of its methods:
        TransientLibsafeError: The platform is away, or fails over the container's list.
        LibsafeError: The platform refuses the key, the list, or the job is another run's.
        SelectionError: The trigger's regular expression finds no end.
    """

    def __init__(self, client: PlatformClient, payload: Payload, *, page_files: int = 1000) -> None:
        self.passed_over: Counter[str] = Counter()
        self._client = client
        self._container_id = payload.function_data.container.id
        self._files = payload.function_data.files
        self._selection = Selection.of(payload)
        self._page_files = page_files
        self._named_ids: set[str] = set()
        self._folders: set[str] = set()

    def __repr__(self) -> str:
        return (
            f"<Plan of container {self._container_id}, {len(self._named_ids)} files and {len(self._folders)}"
            f" folders named, {self.passed_over.total()} passed over>"
        )

    async def named(self) -> AsyncIterator[Page]:
        """Give the files that the payload names, ids first; each once, however often it is named.

        To be gone through once and to the end before `listed` is begun, which needs the folders met here. A
        page comes after so many look-ups, whatever is left of them.
        """
        # With and without its leading slash a path is the same; one at its end can only mean a folder.
        paths = dict.fromkeys(f"/{path.removeprefix('/').rstrip('/')}" for path in self._files.paths)
        meant: list[FileReference] = []
        looked_up = 0
        async for reference in self._looked_up(self._files.ids, paths):
            looked_up += 1
            kept = self._of_named(reference)
            if kept is not None:
                meant.append(kept)
            if looked_up == self._page_files:
                yield Page(tuple(meant))
                meant, looked_up = [], 0
        if meant:
            yield Page(tuple(meant))

    async def listed(self, after: str | None = None) -> AsyncIterator[Page]:
        """Give what the container's list adds: all if the payload names nothing, else what is under folders.

        Args:
            after: Begin behind this cursor, a page's `next_after`; None begins at the first file.

        Yields:
            A page for each of the list's, also where no file of it is hashed; none if the list is not needed.
        """
        if self._container_id is None or not (self._means_all or self._folders):
            return
        pages = self._client.container_pages(self._container_id, after=after, page_files=self._page_files)
        async for records in pages:
            references = await self._selected(records)
            yield Page(tuple(references), after, records[-1].id, len(records))
            after = records[-1].id

    async def part(self, part: Part) -> AsyncIterator[FileReference]:
        """Give the files of one batch with fresh records, whatever has become of them since it was cut.

        What has left its place in the list meanwhile is asked for by itself.
        """
        unmet = dict.fromkeys(part.ids)
        if part.listed and self._container_id is not None:
            left = part.listed
            async for records in self._client.container_pages(
                self._container_id, after=part.after, page_files=self._page_files
            ):
                for record in records:
                    if record.id in unmet:
                        del unmet[record.id]
                        yield _known(record)
                left -= len(records)
                if left <= 0 or not unmet:
                    break
        async for reference in self._looked_up(unmet, part.paths):
            yield reference

    @property
    def _means_all(self) -> bool:
        return not self._files.ids and not self._files.paths

    def _of_named(self, reference: FileReference) -> FileReference | None:
        """Decide on a file that was named: None where it was met before, is passed over, or is a folder."""
        record = reference.record
        if record is None:
            return reference
        if record.id in self._named_ids:
            return None
        self._named_ids.add(record.id)
        if record.type is FileType.FILE or record.deleted:
            return reference if self._is_selected(record) else None
        if record.container_id != self._container_id:
            return FileReference(reference.name, reference.key, None, _folder_error(record))
        # The container's top is "/".
        self._folders.add(record.fullpath.rstrip("/") + "/")
        return None

    async def _selected(self, records: Iterable[FileRecord]) -> list[FileReference]:
        selected = []
        until_seconds = time.monotonic() + _HOLD_SECONDS
        for record in records:
            if time.monotonic() >= until_seconds:
                await asyncio.sleep(0)
                until_seconds = time.monotonic() + _HOLD_SECONDS
            if self._is_meant(record) and self._is_selected(record):
                selected.append(_known(record))
        return selected

    def _is_meant(self, record: FileRecord) -> bool:
        if record.type is FileType.FOLDER or record.id in self._named_ids:
            return False
        return self._means_all or self._is_under_folder(record.fullpath)

    def _is_under_folder(self, fullpath: str) -> bool:
        """Look up each folder above a path: a payload may name tens of thousands."""
        end = fullpath.find("/")
        while end >= 0:
            if fullpath[: end + 1] in self._folders:
                return True
            end = fullpath.find("/", end + 1)
        return False

    def _is_selected(self, record: FileRecord) -> bool:
        code = self._selection.code_against(record)
        if code is not None:
            self.passed_over[code] += 1
        return code is None

    async def _looked_up(self, ids: Iterable[str], paths: Iterable[str]) -> AsyncIterator[FileReference]:
        asks = [
            *(partial(self._by_id, id_) for id_ in ids),
            *(partial(self._by_path, path) for path in paths),
        ]
        for first in range(0, len(asks), _LOOKUPS_AT_ONCE):
            for reference in await _together(asks[first : first + _LOOKUPS_AT_ONCE]):
                yield reference

    async def _by_id(self, file_id: str) -> FileReference:
        not_found = "the platform has no such file."
        return await _reference(f"File {file_id}", file_id, self._client.file(file_id), not_found)

    async def _by_path(self, path: str) -> FileReference:
        assert self._container_id is not None, "a payload without a container names no paths"
        not_found = f"container {self._container_id} has no such file."
        asked = self._client.file_by_path(self._container_id, path)
        return await _reference(f"File {path}", f"path:{path}", asked, not_found)


def check_hashable(record: FileRecord, offline_storage_class_ids: frozenset[str]) -> None:
    """Refuse a record that stands for no readable bytes.

    Raises:
        FileNotHashedError: It is a folder, it is deleted, or its storage class is off-line.
    """
    if record.type is FileType.FOLDER:
        raise _folder_error(record)
    if record.deleted:
        raise FileNotHashedError("deleted", "it is deleted; restore it on the platform first.")
    if record.storage_class_id in offline_storage_class_ids:
        raise FileNotHashedError(
            "offline", "its storage class is off-line; move it to an on-line class first."
        )


def _folder_error(record: FileRecord) -> FileNotHashedError:
    return FileNotHashedError(
        "folder",
        f"it is a folder of container {record.container_id}, and a job goes through folders of its own"
        " container only; start another job there.",
    )


def _known(record: FileRecord) -> FileReference:
    return FileReference(f"File {record.id} ({record.fullpath})", record.id, record, None)


async def _reference(name: str, key: str, asked: Awaitable[FileRecord], not_found: str) -> FileReference:
    """Wait for a record; what concerns this file alone is kept with it."""
    try:
        return _known(await asked)
    except NotFoundError:
        return FileReference(name, key, None, FileNotHashedError("no_such_file", not_found))
    except LibsafeError as error:
        if isinstance(error, CONCERNS_ALL) or is_away(error):
            raise
        return FileReference(name, key, None, error)


async def _together(asks: Sequence[Callable[[], Coroutine[Any, Any, FileReference]]]) -> list[FileReference]:
    """Ask all at the same time and give the answers in order."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask()) for ask in asks]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]
