"""From names to files: what is found in a folder, and in which order."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from worker.hashing.registry import resolve
from worker.settings import Settings
from worker.storage.object_version import ObjectAddress
from worker.targets.finding import find_targets
from worker.targets.sources import Sources
from worker.targets.target import Target

MD5 = resolve(["md5"])


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _find(*names: str, **options: Any) -> list[Target]:
    async def find() -> list[Target]:
        async with Sources(Settings()) as sources:
            found = find_targets(names, MD5, sources, **{"is_recursive": True, **options})
            return [target async for target in found]

    return asyncio.run(find())


def _touch(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"abc")


def test_all_files_under_a_folder_come_in_the_order_of_their_paths_bytes() -> None:
    """As `LC_ALL=C sort` has them: "-" and "." come before the "/" of a folder."""
    _touch("d/b/x", "d/b-", "d/b.txt", "d/b0", "d/a", "d/Z", "d/b/c/y", "d/ä")

    found = _find("d")

    assert [target.name for target in found] == [
        *("d/Z", "d/a", "d/b-", "d/b.txt", "d/b/c/y", "d/b/x", "d/b0", "d/ä")
    ]
    assert {target.size_bytes for target in found} == {3}


@pytest.mark.parametrize(("name", "path"), [("d", "d/x"), ("d/", "d/x"), ("./d", "./d/x"), (".", "./d/x")])
def test_names_begin_as_their_folder_was_given(name: str, path: str) -> None:
    """As `find` prints them."""
    _touch("d/x")

    assert [target.name for target in _find(name)] == [path]


def test_links_to_files_count_and_what_is_left_out_is_told() -> None:
    """A link to a folder may lead back to where it is; what is no file could keep us waiting."""
    told: list[str] = []
    _touch("d/x")
    Path("d/file").symlink_to("x")
    Path("d/folder").symlink_to(".")
    os.mkfifo("d/fifo")

    found = _find("d", on_left_out=told.append)

    assert [target.name for target in found] == ["d/file", "d/x"]
    assert told == [
        "d/fifo: It is neither a file nor a folder; it was not hashed.",
        "d/folder: A link to a folder is not followed; nothing in it was hashed.",
    ]


def test_a_link_that_leads_nowhere_is_told() -> None:
    """It may have been a file."""
    Path("d").mkdir()
    Path("d/link").symlink_to("nowhere")

    (target,) = _find("d")

    assert target.error == "d/link: No such file or directory."


def test_a_folder_is_a_target_only_if_folders_are_wanted() -> None:
    """The sentence tells how."""
    _touch("d/x")

    (target,) = _find("d", is_recursive=False)

    assert target.error == "d: It is a folder; --recursive hashes the files in it."


def test_an_empty_folder_has_no_files() -> None:
    """Nor has one of empty folders, which is no fault."""
    Path("d/e/f").mkdir(parents=True)

    assert _find("d") == []


def test_a_folder_that_can_not_be_looked_through_is_told_and_the_others_go_on() -> None:
    """Its path is longer than the system takes."""
    _touch("other/x")
    deep = os.path.join("d", *["x" * 250] * 20)  # noqa: PTH118 - makes a string
    folder = os.open(".", os.O_RDONLY)
    for part in deep.split("/"):
        os.mkdir(part, dir_fd=folder)
        inner = os.open(part, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)

    too_long, other = _find("d", "other")

    assert too_long.error.endswith(": File name too long.")
    assert other.name == "other/x"


def test_files_that_are_to_be_own_files_are() -> None:
    """By whatever name they are found."""
    _touch("d/x", "d/y")
    Path("d/other name of x").hardlink_to("d/x")
    status = Path("d/x").stat()

    found = _find("d", own_files={(status.st_dev, status.st_ino)})

    assert [target.name for target in found] == ["d/y"]


def test_other_names_are_taken_as_they_are_in_their_order() -> None:
    """Nobody looks whether they are there; one that can be no object says so."""
    found = _find("nowhere", "-", "s3://b/k?versionId=3", "s3://b/k", "s3:///k", "nowhere")

    assert [target.name for target in found] == [
        *("nowhere", "-", "s3://b/k?versionId=3", "s3://b/k", "s3:///k", "nowhere")
    ]
    assert found[2].source == ObjectAddress("b", "k", "3")
    assert found[4].error.startswith("'s3:///k' is not the address of an object")


@pytest.mark.parametrize("name", ["s3://b", "s3://b/", "s3://b/p/"])
def test_a_bucket_without_credentials_can_not_be_listed(name: str) -> None:
    """As for one of its objects."""
    (target,) = _find(name)

    assert target.error == f"{name}: the settings hold no S3 credentials for bucket b; add them there."


def test_a_name_that_can_not_be_printed_is_escaped_in_a_sentence() -> None:
    """A newline would make two sentences of it."""
    Path("new\nline").mkdir()

    (target,) = _find("new\nline", is_recursive=False)

    assert target.error.startswith(r"'new\nline': It is a folder")
