"""How a job's files are cut into batches, whatever its planner meets."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from worker.jobs.batches import Batches, Planning, Sending
from worker.jobs.context import Books, RunContext
from worker.jobs.ledger import Ledger
from worker.jobs.plan import Part
from worker.jobs.planning import PlannedFile, PlanRun, cut
from worker.jobs.stopping import Stop
from worker.jobs.tools import JobTools
from worker.libsafe.errors import NotFoundError, PlatformUnreachableError, RejectedError
from worker.libsafe.models import FileRecord, FileType
from worker.libsafe.outbox import Outbox
from worker.libsafe.payload import Payload
from worker.libsafe.routes import Routes

JOB = "hash-worker:job:http://platform/job/299"
MOST_FILES, MOST_BYTES = 3, 10


def files(*sizes_bytes: int) -> list[PlannedFile]:
    """Make files of these sizes, named in their order."""
    sizes = enumerate(sizes_bytes, 1)
    return [PlannedFile(str(number), size_bytes, is_path=False) for number, size_bytes in sizes]


def sizes(*sizes_bytes: int) -> list[list[int]]:
    """Cut files of these sizes, and give the sizes in each batch."""
    groups = cut(files(*sizes_bytes), most_files=MOST_FILES, most_bytes=MOST_BYTES)
    return [[file.size_bytes for file in group] for group in groups]


def _record(number: int, **changes: Any) -> FileRecord:
    values = {
        "id": str(number),
        "container_id": "4",
        "filename": str(number),
        "fullpath": f"/{number}",
        "size": changes.pop("size_bytes", 1),
        "type": FileType.FILE,
    }
    return FileRecord(**{**values, **changes})


@pytest.mark.parametrize(
    ("sizes_bytes", "groups"),
    [
        ([], []),
        ([0], [[0]]),
        ([0, 0, 0], [[0, 0, 0]]),
        ([0, 0, 0, 0], [[0, 0, 0], [0]]),
        ([5, 5], [[5, 5]]),
        ([5, 5, 0], [[5, 5, 0]]),
        ([5, 6], [[5], [6]]),
        ([9], [[9]]),
        ([9, 1], [[9, 1]]),
        ([9, 2], [[9], [2]]),
        ([10], [[10]]),
        ([11], [[11]]),
        ([1, 10, 1], [[10], [1, 1]]),
        ([1, 99, 2, 10, 3], [[99], [10], [1, 2, 3]]),
        ([0, 10, 0], [[10], [0, 0]]),
    ],
)
def test_files_are_cut_at_so_many_files_and_bytes(sizes_bytes: list[int], groups: list[list[int]]) -> None:
    """None, one, as many as fit, one more; a file of a batch's bytes or more has a batch for itself."""
    assert sizes(*sizes_bytes) == groups


@given(
    st.lists(st.integers(0, 25), max_size=60),
    st.integers(1, 7),
    st.integers(1, 20),
)
def test_every_file_is_in_one_batch_and_no_batch_is_too_large(
    sizes_bytes: list[int], most_files: int, most_bytes: int
) -> None:
    """The small ones stay in their order, and no two batches that follow one another would have been one."""
    found = list(cut(files(*sizes_bytes), most_files=most_files, most_bytes=most_bytes))

    keys = [int(file.key) for group in found for file in group]
    assert sorted(keys) == list(range(1, len(sizes_bytes) + 1))
    small = [group for group in found if group[0].size_bytes < most_bytes]
    in_order = [int(file.key) for group in small for file in group]
    assert in_order == sorted(in_order)
    for group in found:
        assert len(group) == 1 or (len(group) <= most_files and _bytes_of(group) <= most_bytes)
    for first, second in itertools.pairwise(small):
        assert len(first) == most_files or _bytes_of(first) + second[0].size_bytes > most_bytes


def _bytes_of(group: Sequence[PlannedFile]) -> int:
    return sum(file.size_bytes for file in group)


class _Platform:
    """The list of a container, and its files; the n-th call fails if the test wants it."""

    def __init__(self, records: Sequence[FileRecord]) -> None:
        self.records = {record.id: record for record in records}
        self.calls = itertools.count()
        self.fails: dict[int, Exception] = {}

    async def file(self, file_id: str) -> FileRecord:
        self._answer()
        if file_id not in self.records:
            raise NotFoundError("nothing there")
        return self.records[file_id]

    async def container_pages(
        self, container_id: str, *, after: str | None = None, page_files: int = 1000
    ) -> AsyncIterator[tuple[FileRecord, ...]]:
        while True:
            self._answer()
            left = [record for record in self.records.values() if int(record.id) > int(after or 0)]
            if not left:
                return
            page = tuple(left[:page_files])
            yield page
            after = page[-1].id

    def _answer(self) -> None:
        if error := self.fails.pop(next(self.calls), None):
            raise error


class _Sender:
    """Nothing is sent by a planner; see `ReportSender.look`."""

    async def look(self, seconds: float) -> None:
        await asyncio.Event().wait()


class _Fence:
    """The lease of a run that nobody takes it from; see `worker.libsafe.outbox.Fence`."""

    token = "a-token"
    epoch = 1
    rooms: tuple[str, ...] = ()
    is_sure = True

    async def confirm(self) -> None:
        """Be sure."""


class Planner:
    """Plans a job over some records, again and again."""

    def __init__(self, redis: Redis, records: Sequence[FileRecord], **job: Any) -> None:
        self.redis: Any = redis
        self.platform = _Platform(records)
        self.ledger = Ledger(redis, JOB)
        self.batches = Batches(redis, JOB, most_sent=2)
        self._payload = _payload(**job)

    async def begin(self) -> None:
        """Spread the job."""
        await self.redis.set(f"{JOB}:lease", _Fence.token)
        await self.ledger.begin()
        await self.batches.spread(_Fence(), Sending("{}", "@BATCH@", "a-queue", "letters"), "a head")

    async def plan(self) -> None:
        """Run the planner once."""
        context = RunContext(
            client=self.platform,  # type: ignore[arg-type]  # it answers what a planner asks
            sender=_Sender(),  # type: ignore[arg-type]  # as above
            books=Books(Outbox(self.redis, JOB, self._payload.address, _Fence()), self.ledger, self.batches),
            payload=self._payload,
            tools=_tools(),
            stop=Stop(),
            show=lambda _: None,
        )
        await PlanRun(context).run()

    async def parts(self) -> list[Part]:
        """Give all batches, in the order of their numbers."""
        found = await self.redis.hgetall(f"{JOB}:batches")
        assert sorted(map(int, found)) == list(range(1, len(found) + 1))
        return [Part.from_json(found[str(number)]) for number in range(1, len(found) + 1)]


def _payload(ids: Sequence[str] = (), regex: str = "") -> Payload:
    return Payload.parse(
        {
            "api": {"url": "http://platform", "key_user": "a-user-key", "key_root": "a-root-key"},
            "function_data": {
                "container": {"id": "4"},
                "user": {"id": "1"},
                "files": {"ids": list(ids), "paths": []},
                "job": {"id": "299"},
                "trigger": {"id": "0", "type": "", "regex": regex},
                "function": {"id": "0", "key": ""},
            },
            "function_params": {},
        }
    )


def _tools() -> JobTools:
    return JobTools(
        stores=None,  # type: ignore[arg-type]  # a planner reads no object
        lanes=None,  # type: ignore[arg-type]  # as above
        routes=Routes(),
        default_algorithms=("md5",),
        files_at_once=1,
        batch_files=MOST_FILES,
        batch_bytes=MOST_BYTES,
        ranges_in_flight=1,
        offline_storage_class_ids=frozenset(),
        offline_is_error=False,
    )


# A page of the list has five records; every tenth is a folder, every seventh is deleted.
_RECORDS = [
    _record(
        number,
        size_bytes=number % 13,
        type=FileType.FOLDER if number % 10 == 0 else FileType.FILE,
        deleted=number % 7 == 0,
    )
    for number in range(1, 42)
]
_HASHED = [record for record in _RECORDS if record.type is FileType.FILE and not record.deleted]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a container listed five records at a time."""
    monkeypatch.setattr("worker.jobs.planning._PAGE_FILES", 5)


@pytest.mark.parametrize("fails_at", range(10))
async def test_a_planner_that_dies_anywhere_is_followed_by_one_that_goes_on(
    redis: Redis, fails_at: int
) -> None:
    """No file is planned twice and none is left out; what is passed over is counted once."""
    planner = Planner(redis, _RECORDS)
    await planner.begin()
    planner.platform.fails = {fails_at: PlatformUnreachableError("away")}
    with pytest.raises(PlatformUnreachableError):
        await planner.plan()

    await planner.plan()

    planned = Counter(file for part in await planner.parts() for file in part.ids)
    assert planned == Counter(record.id for record in _HASHED)
    snapshot = await planner.ledger.snapshot()
    assert snapshot is not None
    assert (snapshot.files, snapshot.is_planned) == (len(_HASHED), True)
    assert snapshot.size_bytes == sum(record.size_bytes for record in _HASHED)
    assert snapshot.passed_over == {"deleted": sum(record.deleted for record in _RECORDS)}


async def test_files_that_are_named_come_first_and_those_under_named_folders_follow(redis: Redis) -> None:
    """Each once, also after a death between the two; a file that is not there has a batch as well."""
    records = [
        _record(1),
        _record(2, fullpath="/folder", type=FileType.FOLDER),
        _record(3, fullpath="/folder/3"),
        _record(4, deleted=True),
    ]
    planner = Planner(redis, records, ids=["1", "3", "2", "99", "4"])
    await planner.begin()
    planner.platform.fails = {5: PlatformUnreachableError("away")}
    with pytest.raises(PlatformUnreachableError):
        await planner.plan()
    after_the_first = await planner.batches.planning()

    await planner.plan()

    assert after_the_first == Planning(is_spread=True, is_planned=False, cursor="named", batches=1)
    assert [part.ids for part in await planner.parts()] == [("1", "3", "99")]
    snapshot = await planner.ledger.snapshot()
    assert snapshot is not None
    assert (snapshot.files, snapshot.passed_over) == (3, {"deleted": 1})


async def test_a_container_without_files_is_planned_with_nothing(redis: Redis) -> None:
    """The job can be ended at once."""
    planner = Planner(redis, [])
    await planner.begin()

    await planner.plan()

    assert await planner.parts() == []
    assert await planner.batches.is_to_be_ended()


async def test_files_of_a_whole_page_are_found_again_in_the_list_and_single_ones_by_themselves(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a page is worth three requests, three files of five are worth a page, and two are not."""
    monkeypatch.setattr("worker.jobs.planning._FILES_WORTH_A_PAGE", 3)
    dense = Planner(redis, [_record(number) for number in range(1, 6)])
    await dense.begin()
    await dense.plan()
    found = await dense.parts()
    await redis.flushdb()
    sparse = Planner(redis, [_record(number) for number in range(1, 6)], regex="^/[45]$")
    await sparse.begin()

    await sparse.plan()

    assert found == [Part(("1", "2", "3"), (), None, 5), Part(("4", "5"), ())]
    assert await sparse.parts() == [Part(("4", "5"), ())]


async def test_a_cancelled_job_is_planned_no_further(redis: Redis) -> None:
    """The list of a large container is not gone through for nothing."""
    planner = Planner(redis, _RECORDS)
    await planner.begin()
    await planner.ledger.cancel("it was cancelled.")

    await planner.plan()

    assert next(planner.platform.calls) == 0
    assert await planner.parts() == []
    assert await planner.batches.is_to_be_ended()


async def test_a_list_that_the_platform_refuses_cancels_the_job_with_its_reason(redis: Redis) -> None:
    """What is sent ends by itself; the job's end says why."""
    planner = Planner(redis, _RECORDS)
    await planner.begin()
    planner.platform.fails = {3: RejectedError("no lists today.")}

    await planner.plan()

    assert await planner.ledger.cancelled() == "no lists today."
    assert (await planner.batches.planning()).is_planned
    assert len(await planner.parts()) == 2  # the two that were sent
