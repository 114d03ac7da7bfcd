"""The whole pipeline from a cell."""

import asyncio
import hashlib
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.added_algorithms import begin_with_ours_alone
from worker.hashing.errors import UnknownAlgorithmError
from worker.jobs.files_run import FilesRun
from worker.jobs.plan import Page, Plan
from worker.libsafe.errors import NotAuthorizedError
from worker.libsafe.outbox import FileDone
from worker.libsafe.reports import Report
from worker.notebook import (
    S3,
    File,
    NotebookError,
    Request,
    UnreadableFileError,
    configure,
    hash_files,
    pipeline,
    register_algorithm,
)
from worker.notebook.job import NotebookJob
from worker.notebook.local_platform import RunningPlatform

Texts = Callable[[str], list[str]]
Status = Callable[[str], str]


@pytest.fixture(autouse=True)
def few_lanes() -> Any:
    """Two lanes and small slots, so that they are up soon."""
    configure(hashing={"lanes": 2, "slots": 4, "slot_bytes": 65536})
    yield
    configure()


def sha256(content: bytes) -> str:
    """Give a digest as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


async def test_it_gives_a_table_and_reports_as_the_service_does(
    platform: RunningPlatform, status: Status, texts: Texts
) -> None:
    """A row a file, in their order; messages and hashes on the platform, and the sum last."""
    with Request(None, platform.payload(file_ids=platform.file_ids)) as request:
        table = await hash_files(request, ["sha256", "crc32c"])

    digests = [sha256(b"abc"), sha256(bytes(1_000_000)), sha256(b"")]
    assert type(table).__name__ == "DataFrame"
    assert list(table.columns) == ["file_id", "path", "size_bytes", "sha256", "crc32c", "error"]
    assert list(table.file_id) == platform.file_ids
    assert list(table.path) == ["/a.txt", "/b.bin", "/empty"]
    assert list(table.size_bytes) == [3, 1_000_000, 0]
    assert list(table.sha256) == digests
    assert table.crc32c[0] == "364b3fb7"
    assert table.error.isna().all()
    assert status(request.job_id) == "COMPLETED"
    *told, last = texts(request.job_id)
    assert set(told) == {
        *(f"File {file_id} has no metadata" for file_id in platform.file_ids),
        *(f"File hash calculated: SHA256 - {digest}" for digest in digests),
        *(f"File hash calculated: CRC32C - {digest}" for digest in table.crc32c),
    }
    assert last.startswith("Hashed 3 files, 1000003 bytes in ")
    assert [File.get_hashes(file_id)["sha256"] for file_id in platform.file_ids] == digests


async def test_a_file_that_fails_has_a_row_that_says_why(
    platform: RunningPlatform, status: Status, texts: Texts, new_file: Callable[..., str]
) -> None:
    """The others go on, and the job ends FAILED."""
    without_object = new_file()
    payload = platform.payload(
        file_ids=[platform.file_ids[0], without_object, "999"], paths=["/no/such"], algorithms=["sha256"]
    )

    request = Request(None, payload)
    table = await hash_files(request)
    with pytest.warns(UserWarning, match="3 files were not read"):
        request.job_end(is_successful=True)

    assert list(table.sha256.notna()) == [True, False, False, False]
    assert [*table.file_id[:3], table.path[3]] == [*payload["function_data"]["files"]["ids"], "/no/such"]
    errors = list(table.error)
    assert "was not hashed: There is no object s3://archive/new/" in errors[1]
    assert errors[2:] == [
        "File 999 was not hashed: the platform has no such file.",
        "File /no/such was not hashed: container 1 has no such file.",
    ]
    assert status(request.job_id) == "FAILED"
    summary = texts(request.job_id)[-2]
    assert summary.endswith("3 files not hashed: 2 no such file, 1 no such object.")


async def test_a_file_that_is_missed_twice_counts_once(
    platform: RunningPlatform, texts: Texts, new_file: Callable[..., str]
) -> None:
    """By who goes through the files, by its stream, and by the pipeline, twice."""
    without_object = new_file()
    request = Request(None, platform.payload(file_ids=["999", without_object], paths=["/no/such"]))
    request.job_init()

    (file,) = request.Files
    with pytest.raises(UnreadableFileError):
        S3.File.get_stream(request.Storage, file)
    for _ in range(2):
        await hash_files(request, "md5")
    with pytest.warns(UserWarning, match="3 files were not read"):
        request.job_end(is_successful=True)

    assert texts(request.job_id)[-1] == "ERROR: The job ends FAILED: 3 files were not read."


async def test_nothing_is_told_where_nothing_is_to_be_reported(
    platform: RunningPlatform, status: Status, texts: Texts
) -> None:
    """The job is not begun either."""
    request = Request(None, platform.payload())
    before = status(request.job_id)

    table = await hash_files(request, ["sha256"], report=False)

    assert table.sha256[0] == sha256(b"abc")
    assert (status(request.job_id), texts(request.job_id)) == (before, [])


async def test_without_pandas_there_are_rows(
    platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of dictionaries that reads well."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    request = Request(None, platform.payload(file_ids=platform.file_ids[:1]))

    rows = await hash_files(request, ["crc32c"], report=False)

    assert rows == [
        {
            "file_id": platform.file_ids[0],
            "path": "/a.txt",
            "size_bytes": 3,
            "crc32c": "364b3fb7",
            "error": None,
        }
    ]
    assert repr(rows) == (
        "file_id  path    size_bytes  crc32c    error\n1        /a.txt  3           364b3fb7"
    )


async def test_no_files_are_an_empty_table(platform: RunningPlatform) -> None:
    """It has its columns all the same."""
    table = await hash_files(Request(None, platform.payload(include="nothing")), ["md5"], report=False)

    assert (len(table), list(table.columns)) == (0, ["file_id", "path", "size_bytes", "md5", "error"])


async def test_an_algorithm_that_nobody_knows_is_told_before_anything_is_done(
    platform: RunningPlatform, texts: Texts
) -> None:
    """In one sentence."""
    request = Request(None, platform.payload())

    with pytest.raises(UnknownAlgorithmError, match="There is no hash algorithm called 'md6'"):
        await hash_files(request, ["md6"])

    assert texts(request.job_id) == []


async def test_a_job_that_has_ended_is_not_hashed_for(platform: RunningPlatform) -> None:
    """Nothing more can be reported of it."""
    with Request(None, platform.payload()) as request:
        pass

    with pytest.raises(NotebookError, match="has ended already, COMPLETED"):
        await hash_files(request, ["md5"])


async def test_who_gives_up_waiting_ends_the_run(
    platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes on behind the notebook."""
    is_begun, is_cancelled = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stay(_: object) -> None:
        loop.call_soon_threadsafe(is_begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            loop.call_soon_threadsafe(is_cancelled.set)

    monkeypatch.setattr(pipeline._Run, "_plan", stay)
    request = Request(None, platform.payload())
    hashing = asyncio.create_task(hash_files(request, ["md5"], report=False))
    await is_begun.wait()

    hashing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await hashing
    await is_cancelled.wait()


@pytest.mark.parametrize("in_reports", [False, True])
async def test_a_run_that_is_stopped_leaves_a_job_that_can_not_be_completed(
    platform: RunningPlatform,
    status: Status,
    texts: Texts,
    monkeypatch: pytest.MonkeyPatch,
    in_reports: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Though the cell passes the error over; a file whose reports did not get there is not done."""
    put = NotebookJob.put

    async def fail(*_: object, **__: object) -> None:
        raise NotAuthorizedError("The key is refused.")

    async def put_one(self: NotebookJob, *reports: Report, done: FileDone | None = None) -> None:
        if done is not None and done.file != platform.file_ids[0]:
            await fail()
        await put(self, *reports, done=done)

    if in_reports:
        monkeypatch.setattr(NotebookJob, "put", put_one)
    else:
        monkeypatch.setattr(FilesRun, "hash", fail)
    request = Request(None, platform.payload(file_ids=platform.file_ids))
    with pytest.raises(NotAuthorizedError):
        await hash_files(request, ["md5"])
    monkeypatch.undo()

    with pytest.warns(UserWarning, match="files were not read"):
        request.job_end(is_successful=True)

    assert status(request.job_id) == "FAILED"
    assert re.fullmatch(r"ERROR: The job ends FAILED: [23] files were not read\.", texts(request.job_id)[-1])


async def test_who_gives_up_waiting_can_not_complete_the_job(
    platform: RunningPlatform, status: Status, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though he ends it at once, before the run knows that it is stopped."""
    is_begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stay(*_: object) -> None:
        loop.call_soon_threadsafe(is_begun.set)
        await asyncio.Event().wait()

    monkeypatch.setattr(FilesRun, "hash", stay)
    request = Request(None, platform.payload(file_ids=platform.file_ids))
    hashing = asyncio.create_task(hash_files(request, ["md5"]))
    await is_begun.wait()
    hashing.cancel()
    await asyncio.wait([hashing])

    with pytest.warns(UserWarning, match="3 files were not read"):
        request.job_end(is_successful=True)

    assert status(request.job_id) == "FAILED"
    assert texts(request.job_id)[-1] == "ERROR: The job ends FAILED: 3 files were not read."


async def test_files_that_could_not_be_listed_keep_the_job_from_being_completed(
    platform: RunningPlatform, status: Status, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then how many they are."""

    async def refuse(_: object) -> AsyncIterator[Page]:
        raise NotAuthorizedError("The key is refused.")
        yield  # a generator

    monkeypatch.setattr(Plan, "listed", refuse)
    request = Request(None, platform.payload())
    with pytest.raises(NotAuthorizedError):
        await hash_files(request, ["md5"])

    with pytest.warns(UserWarning, match="1 listing of files was not finished"):
        request.job_end(is_successful=True)

    assert status(request.job_id) == "FAILED"
    assert texts(request.job_id) == ["ERROR: The job ends FAILED: 1 listing of files was not finished."]


async def test_one_name_is_one_algorithm(platform: RunningPlatform) -> None:
    """Though its letters could be gone through as names are."""
    request = Request(None, platform.payload(file_ids=platform.file_ids[:1]))

    table = await hash_files(request, "crc32c", report=False)

    assert list(table.crc32c) == ["364b3fb7"]


async def test_an_algorithm_of_a_cell_is_hashed_with_and_stored_under_its_name(
    platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known from its registration on, also to requests that were made before."""
    begin_with_ours_alone(monkeypatch)

    class Length:
        """Counts bytes."""

        def __init__(self) -> None:
            self._size_bytes = 0

        def update(self, data: memoryview) -> None:
            """Count some."""
            self._size_bytes += len(data)

        def digest(self) -> bytes:
            """Give the count."""
            return self._size_bytes.to_bytes(8, "big")

    with Request(None, platform.payload(file_ids=platform.file_ids)) as request:
        register_algorithm("length", Length)
        table = await hash_files(request, ["length"])

    lengths = ["0000000000000003", "00000000000f4240", "0000000000000000"]
    assert list(table["length"]) == lengths
    assert [File.get_hashes(file_id)["length"] for file_id in platform.file_ids] == lengths
