"""The fast way: the files of a request through the whole pipeline, many at once, on all cores."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from worker.bootstrap.runner import job_tools, lane_pool
from worker.hashing.algorithms import Algorithm
from worker.hashing.registry import resolve
from worker.jobs import messages
from worker.jobs.errors import CONCERNS_ALL
from worker.jobs.files_run import FilesRun
from worker.jobs.plan import FileReference, Plan
from worker.libsafe.errors import PermanentLibsafeError
from worker.libsafe.outbox import FileDone
from worker.libsafe.reports import HashReport, MessageReport, Report
from worker.notebook.bar import Bar
from worker.notebook.job import NotebookJob
from worker.notebook.request import Request
from worker.notebook.table import make_table

_REFRESH_SECONDS = 0.25


async def hash_files(
    request: Request, algorithms: str | Sequence[str] | None = None, *, report: bool = True
) -> Any:
    """Hash all files of a request as the service does: each read once, many at once, on all cores.

    Where it is stopped half-way, by an error or by who waits for it, its job can't end COMPLETED any more.

    Args:
        request: Its job is begun if it was not; ending it stays with you.
        algorithms: Names of algorithms, or one name, those that were registered too; None: what the payload
            asks for, else what the settings say.
        report: Tell the platform the messages and hashes of each file, and the sum. False tells nothing.

    Returns:
        A table with a row for each file, in the order of the request's files: file_id, path, size_bytes, a
        column of hexadecimal digests for each algorithm, and error, which says why a file has none or what of
        it the platform refused. A `pandas.DataFrame` where pandas is installed, else a list of dictionaries.

    Raises:
        HashingError: An algorithm is unknown or can't be used.
        LibsafeError: The platform is away, or refuses the key.
    """
    connections = request.driver.connections
    given = [algorithms] if isinstance(algorithms, str) else algorithms
    names = given or request.payload.algorithms or connections.settings.hashing.algorithms
    rows = resolve(names)
    with Bar() as bar:
        run = _Run(request, rows, bar, request.driver.job if report else None)
        coming = asyncio.wrap_future(connections.background.start(run.run()))
        try:
            while not coming.done():
                await asyncio.wait([coming], timeout=_REFRESH_SECONDS)
                bar.refresh()
        finally:
            coming.cancel()
        return coming.result()


class _Run:
    """One run of the pipeline, in the background's event loop; it takes the reports of its files.

    Args:
        request: Whose files.
        algorithms: What to calculate.
        bar: Is told how far it is.
        job: Where reports go; None: nowhere.
    """

    def __init__(
        self, request: Request, algorithms: tuple[Algorithm, ...], bar: Bar, job: NotebookJob | None
    ) -> None:
        self._request = request
        self._algorithms = algorithms
        self._bar = bar
        self._job = job
        self._references: list[FileReference] = []
        self._rows: dict[str, dict[str, Any]] = {}
        self._passed_over: Counter[str] = Counter()
        self._done: list[FileDone] = []

    def __repr__(self) -> str:
        return f"<_Run over {len(self._references)} files of {self._request!r}>"

    async def run(self) -> Any:
        """Hash the files and give the table."""
        began = time.monotonic()
        driver = self._request.driver
        settings = driver.connections.settings
        if self._job is not None:
            await self._job.begin()
            self._job.tally.begin_listing()
        await self._plan()
        if self._job is not None:
            # Told beforehand: who gives up waiting may end the job before this run knows that it is stopped.
            self._job.tally.expect(reference.key for reference in self._references)
        async with lane_pool(settings.hashing) as lanes:
            stores, routes = driver.connections.stores, driver.connections.routes
            files = FilesRun(
                client=driver.client,
                sender=self,
                algorithms=self._algorithms,
                tools=job_tools(settings, stores=stores, lanes=lanes, routes=routes),
                on_bytes=self._bar.add,
            )
            await files.hash(_each(self._references))
        if self._job is not None:
            await self._job.put(self._summary(time.monotonic() - began))
        names = (algorithm.name for algorithm in self._algorithms)
        columns = ("file_id", "path", "size_bytes", *names, "error")
        return make_table([self._rows[reference.key] for reference in self._references], columns)

    async def put(self, *reports: Report, done: FileDone | None = None) -> None:
        """Take what is told of one file; see `worker.jobs.files_run.Reports`."""
        assert done is not None, "whatever is told here is of one file, and all of it"
        row = self._rows[done.file]
        row["size_bytes"] = done.size_bytes
        row |= {report.algorithm: report.hex_digest for report in reports if isinstance(report, HashReport)}
        if done.kind != "hashed":
            row["error"] = " ".join(report.text for report in reports if isinstance(report, MessageReport))
        try:
            if self._job is not None:
                await self._job.put(*reports, done=done)
        except PermanentLibsafeError as error:
            if isinstance(error, CONCERNS_ALL):
                raise
            row["error"] = row["error"] or str(error)
        self._done.append(done)
        self._bar.add_done(done.size_bytes)

    async def _plan(self) -> None:
        plan = Plan(self._request.driver.client, self._request.payload)
        for pages in (plan.named(), plan.listed()):
            async for page in pages:
                self._references += page.references
        self._passed_over += plan.passed_over
        for reference in self._references:
            self._rows[reference.key] = {
                **_named(reference),
                "size_bytes": reference.size_bytes,
                **{algorithm.name: None for algorithm in self._algorithms},
                "error": None,
            }
        size_bytes = sum(reference.size_bytes for reference in self._references)
        self._bar.set_total(len(self._references), size_bytes)

    def _summary(self, seconds: float) -> MessageReport:
        hashed = [done.size_bytes for done in self._done if done.kind == "hashed"]
        not_hashed = Counter(done.code for done in self._done if done.kind == "not_hashed")
        passed_over = Counter(done.code for done in self._done if done.kind == "passed_over")
        return MessageReport(
            messages.summary_message(
                hashed_files=len(hashed),
                hashed_bytes=sum(hashed),
                seconds=seconds,
                not_hashed=not_hashed,
                passed_over=passed_over + self._passed_over,
            )
        )


async def _each(references: Sequence[FileReference]) -> AsyncIterator[FileReference]:
    for reference in references:
        yield reference


def _named(reference: FileReference) -> dict[str, str | None]:
    """Give a file's id and path, as far as they are known."""
    if reference.record is not None:
        return {"file_id": reference.record.id, "path": reference.record.fullpath}
    path = reference.key.removeprefix("path:")
    is_path = path != reference.key
    return {"file_id": None if is_path else reference.key, "path": path if is_path else None}
