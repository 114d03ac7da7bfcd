import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.jobs import plan as plan_module
from worker.jobs.errors import FileNotHashedError, SelectionError
from worker.jobs.plan import FileReference, Page, Part, Plan, check_hashable
from worker.libsafe.errors import (
    JobTakenOverError,
    LibsafeError,
    NotAuthorizedError,
    NotFoundError,
    NotPermittedError,
    PlatformBusyError,
    PlatformUnreachableError,
    WrongAnswerError,
)
from worker.libsafe.models import FileRecord, FileType
from worker.libsafe.payload import Payload

FOLDER = FileType.FOLDER


class _Platform:
    """Records of files, in the order of their ids, and what was asked."""

    def __init__(self, records: Iterable[FileRecord] = ()) -> None:
        self.records = {record.id: record for record in records}
        self.errors: dict[str, LibsafeError] = {}
        self.asked: list[str] = []
        self.pages_from: list[str | None] = []
        self.at_once = self.most_at_once = 0

    async def file(self, file_id: str) -> FileRecord:
        return await self._answer(file_id, lambda record: record.id == file_id)

    async def file_by_path(self, container_id: str, path: str) -> FileRecord:
        def is_there(record: FileRecord) -> bool:
            return record.container_id == container_id and record.path == path.removeprefix("/")

        return await self._answer(path, is_there)

    async def container_pages(
        self, container_id: str, *, after: str | None = None, page_files: int = 1000
    ) -> AsyncIterator[tuple[FileRecord, ...]]:
        while True:
            self.pages_from.append(after)
            if error := self.errors.get("list"):
                raise error
            all_ = [record for record in self.records.values() if record.container_id == container_id]
            page = tuple(record for record in all_ if after is None or int(record.id) > int(after))[
                :page_files
            ]
            if not page:
                return
            yield page
            after = page[-1].id

    async def _answer(self, name: str, is_it: Callable[[FileRecord], bool]) -> FileRecord:
        self.asked.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if error := self.errors.get(name):
            raise error
        for record in self.records.values():
            if is_it(record):
                return record
        raise NotFoundError("nothing there")


def _record(number: int, fullpath: str | None = None, **changes: Any) -> FileRecord:
    fullpath = fullpath or f"/{number}"
    return FileRecord(
        **{
            "id": str(number),
            "container_id": "1",
            "filename": fullpath.rsplit("/", 1)[-1],
            "fullpath": fullpath,
            "size_bytes": number,
            "type": FileType.FILE,
            **changes,
        }
    )


def _plan(
    platform: _Platform,
    *,
    ids: Sequence[str] = (),
    paths: Sequence[str] = (),
    container: str | None = "1",
    regex: str = "",
    page_files: int = 3,
    **params: Any,
) -> Plan:
    payload = Payload.parse(
        {
            "api": {"url": "http://h", "key_user": "k"},
            "function_data": {
                "container": {"id": container},
                "files": {"ids": list(ids), "paths": list(paths)},
                "job": {"id": "1"},
                "trigger": {"regex": regex},
            },
            "function_params": params,
        }
    )
    return Plan(platform, payload, page_files=page_files)  # type: ignore[arg-type]  # all that a plan asks for


async def _all(pages: AsyncIterator[Page]) -> list[FileReference]:
    return [reference async for page in pages for reference in page.references]


async def _planned(plan: Plan) -> list[str]:
    """Give the keys of all of a job's files, in order."""
    return [reference.key for reference in [*await _all(plan.named()), *await _all(plan.listed())]]


async def test_ids_come_first_then_paths_in_the_payloads_order() -> None:
    """With their records; nothing else is asked for."""
    platform = _Platform([_record(1), _record(2, "/dir/b"), _record(3), _record(4)])

    references = await _all(_plan(platform, ids=["3", "1"], paths=["/dir/b"]).named())

    assert [(r.name, r.key, r.size_bytes, r.error) for r in references] == [
        ("File 3 (/3)", "3", 3, None),
        ("File 1 (/1)", "1", 1, None),
        ("File 2 (/dir/b)", "2", 2, None),
    ]
    assert [r.record for r in references] == [platform.records[id_] for id_ in ("3", "1", "2")]
    assert (platform.asked, platform.pages_from) == (["3", "1", "/dir/b"], [])


async def test_a_file_that_is_named_several_times_is_given_once() -> None:
    """By its id, by its path, by its path without the first slash, and under a folder that is named too."""
    platform = _Platform([_record(1, "/dir", type=FOLDER), _record(2, "/dir/a"), _record(3, "/dir/b")])

    plan = _plan(platform, ids=["2", "1"], paths=["/dir/a", "dir/a", "/dir", "dir"])

    assert await _planned(plan) == ["2", "3"]


async def test_a_file_that_is_not_there_is_told_by_the_name_that_was_given() -> None:
    """With or without its first slash a path that is not there is one file."""
    plan = _plan(_Platform(), ids=["7"], paths=["/a b", "a b"])

    references = await _all(plan.named())

    assert [(r.name, r.key, r.record, r.size_bytes) for r in references] == [
        ("File 7", "7", None, 0),
        ("File /a b", "path:/a b", None, 0),
    ]
    assert [str(r.error) for r in references] == [
        "the platform has no such file.",
        "container 1 has no such file.",
    ]
    assert {r.error.code for r in references if r.error} == {"no_such_file"}


@pytest.mark.parametrize(
    "error", [NotPermittedError("no"), WrongAnswerError("odd"), PlatformBusyError("fails over it")]
)
async def test_what_goes_wrong_with_one_record_stays_with_it(error: LibsafeError) -> None:
    """The others go on."""
    platform = _Platform([_record(1), _record(2)])
    platform.errors["1"] = platform.errors["/x"] = error

    references = await _all(_plan(platform, ids=["1", "2"], paths=["/x"]).named())

    assert [(r.key, r.error) for r in references] == [("1", error), ("2", None), ("path:/x", error)]


@pytest.mark.parametrize(
    "error",
    [
        PlatformUnreachableError("away"),
        PlatformBusyError("asks for time", retry_after_seconds=1),
        NotAuthorizedError("key"),
        JobTakenOverError("other"),
    ],
)
async def test_what_concerns_all_files_is_raised(error: LibsafeError) -> None:
    """By the names, by the parts; nothing is taken for a file that is not there."""
    platform = _Platform([_record(1)])
    platform.errors["1"] = error

    with pytest.raises(type(error)):
        await _all(_plan(platform, ids=["1"]).named())
    with pytest.raises(type(error)):
        _ = [r async for r in _plan(platform).part(Part(ids=("1",)))]


@pytest.mark.parametrize("error", [PlatformUnreachableError("away"), NotPermittedError("no")])
async def test_a_list_that_is_not_given_is_raised(error: LibsafeError) -> None:
    """It concerns no single file, so none can be told."""
    platform = _Platform([_record(1)])
    platform.errors["list"] = error

    with pytest.raises(type(error)):
        await _all(_plan(platform).listed())
    with pytest.raises(type(error)):
        _ = [r async for r in _plan(platform).part(Part(ids=("1",), listed=1))]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33])
async def test_sixteen_records_are_asked_for_at_a_time(count: int) -> None:
    """Neither one by one nor ten thousand at once; they come in order."""
    platform = _Platform([_record(number) for number in range(count)])
    ids = [str(number) for number in reversed(range(count))]

    references = await _all(_plan(platform, ids=ids, page_files=1000).named()) if ids else []

    assert [r.key for r in references] == ids
    assert platform.most_at_once == min(count, 16)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
async def test_named_files_come_in_pages_without_a_cursor(count: int, sizes: list[int]) -> None:
    """The payload is all that is needed to find them again."""
    platform = _Platform([_record(number) for number in range(1, count + 1)])

    pages = [page async for page in _plan(platform, ids=list(platform.records)).named()]

    assert [len(page.references) for page in pages] == sizes
    assert {(page.after, page.next_after, page.listed) for page in pages} == {(None, None, 0)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
async def test_a_payload_that_names_nothing_means_its_container(count: int) -> None:
    """Each file once, whatever the number of pages."""
    platform = _Platform([_record(number) for number in range(1, count + 1)])

    plan = _plan(platform)

    assert await _planned(plan) == list(platform.records)
    assert platform.asked == []
    assert not plan.passed_over


@pytest.mark.parametrize(
    ("count", "cursors"),
    [
        (0, []),
        (2, [(None, "2", 2)]),
        (3, [(None, "3", 3)]),
        (7, [(None, "3", 3), ("3", "6", 3), ("6", "7", 1)]),
    ],
)
async def test_the_pages_of_a_list_hang_together_by_their_cursors(
    count: int, cursors: list[tuple[str | None, str | None, int]]
) -> None:
    """A planner that dies is followed by one that goes on at any of them, the last one too."""
    platform = _Platform([_record(number) for number in range(1, count + 1)])

    pages = [page async for page in _plan(platform).listed()]

    assert [(page.after, page.next_after, page.listed) for page in pages] == cursors
    for index, page in enumerate(pages):
        assert [later async for later in _plan(platform).listed(page.after)] == pages[index:]
        assert [later async for later in _plan(platform).listed(page.next_after)] == pages[index + 1 :]


async def test_a_page_without_a_file_of_the_job_is_given_all_the_same() -> None:
    """Its cursor is worth keeping."""
    platform = _Platform([_record(number, f"/{number}.txt") for number in range(1, 5)])

    pages = [page async for page in _plan(platform, include=["4.txt"]).listed()]

    assert [(len(page.references), page.next_after, page.listed) for page in pages] == [
        (0, "3", 3),
        (1, "4", 1),
    ]


async def test_folders_of_the_list_are_passed_over_and_deleted_files_are_counted() -> None:
    """Nobody asked for them by name."""
    platform = _Platform(
        [_record(1, type=FOLDER), _record(2, deleted=True), _record(3), _record(4, type=FOLDER, deleted=True)]
    )

    plan = _plan(platform)

    assert await _planned(plan) == ["3"]
    assert plan.passed_over == {"deleted": 1}
    assert repr(plan) == "<Plan of container 1, 0 files and 0 folders named, 1 passed over>"


async def test_a_folder_means_what_is_under_it_at_any_depth() -> None:
    """Named by its id or its path; what only begins with its name is not under it."""
    platform = _Platform(
        [
            _record(1, "/a", type=FOLDER),
            _record(2, "/a/x"),
            _record(3, "/a/b", type=FOLDER),
            _record(4, "/a/b/c/y"),
            _record(5, "/ab/z"),
            _record(6, "/b/a/x"),
            _record(7, "/other"),
            _record(8, "/a/gone", deleted=True),
            _record(9, "/gone", deleted=True),
        ]
    )

    for ids, paths in ((["1"], []), ([], ["/a"]), ([], ["a"]), ([], ["/a/", "/a"]), (["1", "3"], ["/a/b"])):
        plan = _plan(platform, ids=ids, paths=paths)
        assert await _planned(plan) == ["2", "4"]
        assert plan.passed_over == {"deleted": 1}


async def test_the_folder_at_the_top_means_everything() -> None:
    """It is the folder above all paths."""
    platform = _Platform([_record(1, "/", type=FOLDER), _record(2, "/a"), _record(3, "/b/c")])

    assert await _planned(_plan(platform, ids=["1"])) == ["2", "3"]


async def test_without_folders_the_list_is_not_asked_for() -> None:
    """A job of one file does not go through a container of millions."""
    platform = _Platform([_record(1), _record(2)])

    assert await _planned(_plan(platform, ids=["1"])) == ["1"]
    assert platform.pages_from == []


@pytest.mark.parametrize("container", ["1", None])
async def test_a_folder_of_another_container_is_an_error(container: str | None) -> None:
    """Its files are not in the job's list, and a job that hashes none of them must not end well."""
    platform = _Platform([_record(1, "/dir", type=FOLDER, container_id="2"), _record(2, "/dir/a")])

    [reference] = [
        r async for page in _plan(platform, ids=["1"], container=container).named() for r in page.references
    ]

    assert (reference.name, reference.key, reference.record) == ("File 1 (/dir)", "1", None)
    assert isinstance(reference.error, FileNotHashedError)
    assert reference.error.code == "folder"
    assert str(reference.error) == (
        "it is a folder of container 2, and a job goes through folders of its own container only;"
        " start another job there."
    )


async def test_a_file_of_another_container_is_hashed() -> None:
    """An id names a file wherever it is."""
    platform = _Platform([_record(1, container_id="2")])

    assert await _planned(_plan(platform, ids=["1"])) == ["1"]


async def test_named_and_listed_files_are_chosen_by_the_same_rules() -> None:
    """Whatever names a file, what is passed over is counted once, by the reason."""
    platform = _Platform(
        [
            _record(1, "/dir", type=FOLDER),
            _record(2, "/dir/a.tif"),
            _record(3, "/dir/b.tif", deleted=True),
            _record(4, "/dir/c.txt"),
            _record(5, "/dir/d.tif"),
            _record(6, "/dir/x/e.tif"),
            _record(7, "/dir/Thumbs.tif"),
            _record(8, "/top.tif"),
        ]
    )

    plan = _plan(
        platform,
        ids=["1", "2", "3", "4", "8"],
        paths=["/dir/c.txt"],
        regex="^/dir/",
        include="*.tif",
        exclude="Thumbs.*\n/dir/x/*",
    )

    assert await _planned(plan) == ["2", "5"]
    assert plan.passed_over == {"deleted": 1, "not_included": 1, "trigger_regex": 1, "excluded": 2}


async def test_a_deleted_folder_that_is_named_is_passed_over() -> None:
    """What was in it is deleted with it."""
    platform = _Platform([_record(1, "/dir", type=FOLDER, deleted=True), _record(2, "/dir/a", deleted=True)])

    plan = _plan(platform, ids=["1"])

    assert await _planned(plan) == []
    assert plan.passed_over == {"deleted": 1}


async def test_a_regular_expression_without_end_ends_the_plan() -> None:
    """It is an error of the job and no hang."""
    platform = _Platform([_record(1, "/" + "a" * 60 + "!")])

    with pytest.raises(SelectionError, match="file 1 "):
        await _planned(_plan(platform, regex="(a|aa)+$"))


async def test_selecting_lets_other_jobs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow expression over a page of paths must not hold the loop that all jobs share."""
    monkeypatch.setattr(plan_module, "_HOLD_SECONDS", 0)
    platform = _Platform([_record(number) for number in range(1, 100)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await _all(_plan(platform, page_files=1000).listed())
    other.cancel()

    assert turns >= 90


async def test_a_part_of_the_list_is_read_page_by_page() -> None:
    """A batch of a thousand files takes one request and not a thousand."""
    platform = _Platform([_record(number) for number in range(1, 12)])

    references = [r async for r in _plan(platform).part(Part(ids=("4", "6", "9"), after="3", listed=6))]

    assert [(r.key, r.record) for r in references] == [(i, platform.records[i]) for i in ("4", "6", "9")]
    assert (platform.pages_from, platform.asked) == (["3", "6"], [])


async def test_a_part_stops_reading_when_all_its_files_are_met() -> None:
    """The pages behind are another batch's."""
    platform = _Platform([_record(number) for number in range(1, 12)])

    references = [r async for r in _plan(platform).part(Part(ids=("1",), listed=9))]

    assert [r.key for r in references] == ["1"]
    assert platform.pages_from == [None]


async def test_what_has_left_its_place_in_the_list_is_asked_for_by_itself() -> None:
    """Files that come move others to the next page, and one that went has to be told."""
    platform = _Platform([_record(number) for number in (1, 2, 4, 6)])

    references = [r async for r in _plan(platform).part(Part(ids=("2", "3", "6"), listed=3))]

    assert [(r.key, r.record is None) for r in references] == [("2", False), ("3", True), ("6", False)]
    assert (platform.pages_from, platform.asked) == ([None], ["3", "6"])


async def test_a_list_that_has_become_shorter_is_read_to_its_end() -> None:
    """What was behind it is told like any file that went."""
    platform = _Platform([_record(1), _record(2)])

    references = [r async for r in _plan(platform).part(Part(ids=("2", "5"), listed=6))]

    assert [(r.key, r.record is None) for r in references] == [("2", False), ("5", True)]
    assert (platform.pages_from, platform.asked) == ([None, "2"], ["5"])


async def test_the_files_of_a_part_are_not_chosen_again() -> None:
    """The planner has counted them; what became of them since is for the run to tell."""
    platform = _Platform([_record(1, deleted=True), _record(2, type=FOLDER), _record(3)])

    plan = _plan(platform, include=["nothing"])

    for part in (Part(ids=("1", "2", "3"), listed=3), Part(ids=("1", "2", "3"))):
        assert [r.record async for r in plan.part(part)] == list(platform.records.values())
    assert not plan.passed_over


async def test_a_part_of_named_files_asks_for_each() -> None:
    """Also for paths that the platform did not know: it may know them by now."""
    platform = _Platform([_record(1), _record(2, "/late")])

    references = [r async for r in _plan(platform).part(Part(ids=("1", "9"), paths=("/late", "/never")))]

    assert [(r.key, r.record is None) for r in references] == [
        ("1", False),
        ("9", True),
        ("2", False),
        ("path:/never", True),
    ]
    assert platform.pages_from == []


async def test_an_empty_part_has_no_files() -> None:
    """Nothing is asked."""
    platform = _Platform([_record(1)])

    assert [r async for r in _plan(platform).part(Part())] == []
    assert (platform.asked, platform.pages_from) == ([], [])


_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    st.builds(
        Part,
        ids=st.lists(_texts).map(tuple),
        paths=st.lists(_texts).map(tuple),
        after=st.none() | _texts,
        listed=st.integers(min_value=0),
    )
)
def test_a_part_is_the_same_when_it_comes_back(part: Part) -> None:
    """Whatever an id or a path is made of."""
    assert Part.from_json(part.as_json()) == part


@pytest.mark.parametrize("first", [1, 123_456_789, 10**17])
def test_a_part_of_a_thousand_ids_in_a_row_takes_few_bytes(first: int) -> None:
    """A hundred million files are 100,000 batches in the broker."""
    ids = tuple(str(number) for number in range(first, first + 1000))

    assert len(Part(ids, after=str(first - 1), listed=1000).as_json()) < 3500


_FOLDERS = ("/", "/a", "/a/b", "/b")
_PATHS = tuple(f"{folder.rstrip('/')}/{name}" for folder in _FOLDERS for name in ("x", "y", "ab"))
_RECORDS = (
    *(_record(number, path, type=FOLDER) for number, path in enumerate(_FOLDERS, start=1)),
    *(_record(number, path, deleted=number % 5 == 0) for number, path in enumerate(_PATHS, start=11)),
)


def _means(record: FileRecord, named: FileRecord) -> bool:
    is_under = named.type is FOLDER and record.fullpath.startswith(named.fullpath.rstrip("/") + "/")
    return record.id == named.id or is_under


@given(
    ids=st.lists(st.sampled_from([record.id for record in _RECORDS])),
    paths=st.lists(st.sampled_from([p for r in _RECORDS[1:] for p in (r.fullpath, r.path)])),
    page_files=st.integers(1, 9),
)
async def test_each_file_is_given_once_whatever_names_it(
    ids: list[str], paths: list[str], page_files: int
) -> None:
    """As if each name were held against each record."""
    named = [r for r in _RECORDS if r.id in ids or r.fullpath in paths or r.path in paths]
    meant = [
        record
        for record in _RECORDS
        if record.type is not FOLDER and (not named or any(_means(record, name) for name in named))
    ]

    plan = _plan(_Platform(_RECORDS), ids=ids, paths=paths, page_files=page_files)
    keys = await _planned(plan)

    assert sorted(keys) == sorted(record.id for record in meant if not record.deleted)
    assert plan.passed_over["deleted"] == sum(record.deleted for record in meant)


async def test_a_list_without_end_takes_the_memory_of_a_page() -> None:
    """A million files are planned as ten thousand are."""

    class _Endless(_Platform):
        async def container_pages(
            self, container_id: str, *, after: str | None = None, page_files: int = 1000
        ) -> AsyncIterator[tuple[FileRecord, ...]]:
            for page in range(30):
                yield tuple(_record(page * page_files + number) for number in range(1, page_files + 1))

    peaks = []
    tracemalloc.start()
    try:
        async for _ in _plan(_Endless(), page_files=200).listed():
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()

    assert max(peaks[15:]) < 1.5 * max(peaks[2:15])


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"type": FOLDER}, "folder"), ({"deleted": True}, "deleted"), ({"storage_class_id": "3"}, "offline")],
)
def test_what_has_no_readable_bytes_is_refused(changes: dict[str, Any], code: str) -> None:
    """A reason that is counted, before any request to the storage."""
    with pytest.raises(FileNotHashedError) as caught:
        check_hashable(_record(1, **changes), frozenset({"3"}))

    assert caught.value.code == code


def test_a_file_with_readable_bytes_is_not_refused() -> None:
    """Also in a storage class that is on-line."""
    check_hashable(_record(1, storage_class_id="2"), frozenset({"3"}))
