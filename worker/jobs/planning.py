"""The planning of a job that is spread over all workers: its files, cut into batches."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from worker import metrics
from worker.jobs.batches import Batch
from worker.jobs.context import RunContext
from worker.jobs.plan import Page, Part, Plan
from worker.jobs.supervision import supervise

# A cursor is one of these, and what follows it.
_NAMED = "named"
_LISTED = "listed after "
# A page of the list takes about as long as sixteen records, which are asked for at the same time.
_FILES_WORTH_A_PAGE = 16
_PAGE_FILES = 1000
# Where few files of a list are meant the cursor is kept, and a cancelled job noticed, after so many pages.
_MOST_PAGES = 50

_log = structlog.get_logger(__name__)


class PlanRun:
    """One run of the planner, which goes on where the one before it died.

    Args:
        context: What it works with; nothing is put into the outbox.
    """

    def __init__(self, context: RunContext) -> None:
        self._fence = context.books.outbox.fence
        self._ledger = context.books.ledger
        self._batches = context.books.batches
        self._tools = context.tools
        self._stop = context.stop
        self._plan = Plan(context.client, context.payload, page_files=_PAGE_FILES)
        self._watch = context.watch()
        self._told: Counter[str] = Counter()
        self._last = 0
        self._cursor = ""

    async def run(self) -> None:
        """Plan the job to its last batch.

        Raises:
            StoppedError: It was stopped for a reason that does not end the job, such as that the platform has
                ended it.
            JobTakenOverError: Another run has the job's lease.
            TransientLibsafeError: The platform is away.
            NotAuthorizedError: It refuses the key.
        """
        with metrics.STAGE_SECONDS.labels("plan").time():
            broken = await supervise(self._work, self._watch, self._stop)
        if broken is not None:
            await self._ledger.cancel(broken)
        await self._batches.finish_planning(self._fence, self._cursor if broken is None else None)

    async def _work(self) -> None:
        planning = await self._batches.planning()
        self._last = planning.batches
        cursor = self._cursor = planning.cursor
        named: list[PlannedFile] = []
        async for page in self._plan.named():
            self._watch.note_progress()
            named += _files_of([page])
        if not cursor:
            if not await self._add(named, _NAMED):
                return
        else:
            # Counted by the planner that added them.
            self._told += self._plan.passed_over
        after = cursor.removeprefix(_LISTED) if cursor.startswith(_LISTED) else None
        await self._add_listed(after)

    async def _add_listed(self, after: str | None) -> None:
        gathered: list[Page] = []
        async for page in self._plan.listed(after):
            self._watch.note_progress()
            gathered.append(page)
            if self._is_enough(gathered):
                if not await self._add_pages(gathered):
                    return
                gathered = []
        if gathered:
            await self._add_pages(gathered)

    def _is_enough(self, pages: Sequence[Page]) -> bool:
        found = [reference for page in pages for reference in page.references]
        size_bytes = sum(reference.size_bytes for reference in found)
        is_batch = len(found) >= self._tools.batch_files or size_bytes >= self._tools.batch_bytes
        return is_batch or len(pages) >= _MOST_PAGES

    async def _add_pages(self, pages: Sequence[Page]) -> bool:
        files = _files_of(pages)
        listed = sum(page.listed for page in pages)
        cursor = f"{_LISTED}{pages[-1].next_after}"
        return await self._add(files, cursor, after=pages[0].after, listed=listed)

    async def _add(
        self, files: Sequence["PlannedFile"], cursor: str, *, after: str | None = None, listed: int = 0
    ) -> bool:
        """Add the batches of some files; False if the job was cancelled."""
        batches = [
            _batch(group, after, listed)
            for group in cut(files, most_files=self._tools.batch_files, most_bytes=self._tools.batch_bytes)
        ]
        passed_over = self._plan.passed_over - self._told
        self._told = self._plan.passed_over.copy()
        is_added = await self._batches.add(
            self._fence,
            self._last + 1,
            batches,
            previous=self._cursor,
            cursor=cursor,
            passed_over=passed_over,
        )
        if is_added:
            self._cursor = cursor
        self._last += len(batches)
        _log.info("Batches were added", batches=len(batches), files=len(files), cursor=cursor)
        return is_added


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """What a batch is cut by, without the record: a payload may name a hundred thousand files."""

    key: str
    size_bytes: int
    is_path: bool


def cut(files: Sequence[PlannedFile], *, most_files: int, most_bytes: int) -> Iterator[Sequence[PlannedFile]]:
    """Cut files into batches of so many files and bytes at most; a file that is larger has one for itself.

    Their order stays, apart from the large ones, which come as they are met.
    """
    group: list[PlannedFile] = []
    group_bytes = 0
    for file in files:
        if file.size_bytes >= most_bytes:
            yield [file]
            continue
        if group and (len(group) == most_files or group_bytes + file.size_bytes > most_bytes):
            yield group
            group, group_bytes = [], 0
        group.append(file)
        group_bytes += file.size_bytes
    if group:
        yield group


def _files_of(pages: Iterable[Page]) -> list[PlannedFile]:
    return [
        PlannedFile(
            reference.key,
            reference.size_bytes,
            is_path=reference.record is None and reference.key.startswith("path:/"),
        )
        for page in pages
        for reference in page.references
    ]


def _batch(files: Sequence[PlannedFile], after: str | None, listed: int) -> Batch:
    ids = tuple(file.key for file in files if not file.is_path)
    paths = tuple(file.key.removeprefix("path:") for file in files if file.is_path)
    pays = listed and len(files) * _PAGE_FILES >= _FILES_WORTH_A_PAGE * listed
    part = Part(ids, paths, after, listed) if pays else Part(ids, paths)
    return Batch(part, len(files), sum(file.size_bytes for file in files))
