from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.jobs.errors import SelectionError
from worker.jobs.selection import Selection
from worker.libsafe.models import FileRecord, FileType
from worker.libsafe.payload import Payload


def _record(fullpath: str = "/scans/1/a.tif", *, deleted: bool = False) -> FileRecord:
    return FileRecord(
        id="7",
        container_id="1",
        filename=fullpath.rsplit("/", 1)[-1],
        fullpath=fullpath,
        size_bytes=1,
        type=FileType.FILE,
        deleted=deleted,
    )


def _takes(fullpath: str, **choice: Any) -> bool:
    return Selection(**choice).code_against(_record(fullpath)) is None


@pytest.mark.parametrize(
    ("glob", "fullpath", "matches"),
    [
        ("*.tif", "/scans/1/a.tif", True),
        ("*.tif", "/scans/1/a.TIF", False),
        ("*.tif", "/scans.tif/a.jpg", False),
        ("scans", "/scans/a.tif", False),
        ("a.ti?", "/scans/a.tif", True),
        ("[ab].tif", "/b.tif", True),
        ("[!ab].tif", "/b.tif", False),
        ("[[]x].tif", "/[x].tif", True),
        ("scans/*.tif", "/scans/1/2/a.tif", True),
        ("/scans/*.tif", "/scans/a.tif", True),
        ("scans/*.tif", "/old/scans/a.tif", False),
        ("*/scans/*", "/old/scans/a.tif", True),
        ("/a.tif", "/a.tif", True),
        ("/a.tif", "/scans/a.tif", False),
        ("scans/", "/scans/a.tif", False),
        ("scans/1", "/scans/1/a.tif", False),
        ("/", "/a.tif", False),
        ("*", "/scans/größe\n文件 🗄", True),
        ("*文?", "/größe/文件", True),
    ],
)
def test_a_glob_without_a_slash_is_for_names_and_one_with_a_slash_for_whole_paths(
    glob: str,
    fullpath: str,
    matches: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """Case matters, a star crosses slashes, and the first slash may be left out."""
    assert _takes(fullpath, include=[glob]) is matches
    assert _takes(fullpath, exclude=[glob]) is not matches


def test_one_of_several_globs_suffices() -> None:
    """Names and whole paths may stand beside one another."""
    include = ["*.jpg", "scans/*.tif", "*.png", "maps/*"]

    assert [_takes(path, include=include) for path in ("/a.png", "/scans/b.tif", "/maps/c", "/b.tif")] == [
        True,
        True,
        True,
        False,
    ]


def test_without_anything_to_choose_by_every_file_is_hashed() -> None:
    """An empty payload chooses nothing out."""
    assert _takes("/any/file")
    assert _takes("/any/file", trigger_regex="", include=[], exclude=[])


def test_the_first_reason_is_told() -> None:
    """Deleted, then the trigger's expression, then what is not included, then what is excluded."""
    fits: dict[str, Any] = {"trigger_regex": "tif$", "include": ["*.tif"], "exclude": ["scans/*"]}

    codes = [
        Selection(**{**fits, "trigger_regex": "jpg$", "include": ["x"]}).code_against(_record(deleted=True)),
        Selection(**{**fits, "trigger_regex": "jpg$", "include": ["x"]}).code_against(_record()),
        Selection(**{**fits, "include": ["x"]}).code_against(_record()),
        Selection(**fits).code_against(_record()),
        Selection(**{**fits, "exclude": []}).code_against(_record()),
    ]

    assert codes == ["deleted", "trigger_regex", "not_included", "excluded", None]


def test_the_payload_tells_all_three() -> None:
    """The trigger has the expression, the parameters have the globs."""
    payload = Payload.parse(
        {
            "api": {"url": "http://h", "key_user": "k"},
            "function_data": {"container": {"id": 1}, "job": {"id": 1}, "trigger": {"regex": "^/scans/"}},
            "function_params": {"include": "*.tif\n*.jpg", "exclude": ["*/tmp/*"]},
        }
    )
    selection = Selection.of(payload)

    paths = ["/scans/a.tif", "/scans/a.jpg", "/maps/a.tif", "/scans/a.txt", "/scans/tmp/a.tif"]
    assert [selection.code_against(_record(path)) for path in paths] == [
        None,
        None,
        "trigger_regex",
        "not_included",
        "excluded",
    ]


def test_a_search_without_end_names_the_file_and_ends_the_job() -> None:
    """It would meet the next path too, so it concerns the job and not one file."""
    path = "/" + "a" * 60 + "!"

    with pytest.raises(SelectionError) as caught:
        Selection("(a|aa)+$").code_against(_record(path))

    assert str(caught.value) == (
        f"the search for trigger.regex in the path of file 7 ({path}) found no end;"
        " make it simpler, without repeats inside of repeats."
    )


@given(st.lists(st.text(min_size=1, max_size=20), max_size=5), st.text(max_size=20))
def test_any_text_is_a_glob(globs: list[str], name: str) -> None:
    """A sign that means nothing where it stands means itself; nothing is raised."""
    record = _record(f"/{name}")

    included = Selection(include=globs).code_against(record) is None
    excluded = Selection(exclude=globs).code_against(record) is not None

    assert included is (excluded or not globs)


def test_many_stars_take_no_time_without_end() -> None:
    """A glob of the user's must not hold the worker either; the test's own time limit would end it."""
    assert not _takes("/" + "a" * 1000, include=["*a" * 500 + "b", "/" + "*a" * 500 + "b"])
