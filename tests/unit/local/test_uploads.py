import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from worker.local.errors import UnusablePathError
from worker.local.uploads import plan_together, plan_uploads


def write(path: Path) -> Path:
    """Make a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_file_comes_as_its_name(tmp_path: Path) -> None:
    """The folders above a single file stay out of its key."""
    file = write(tmp_path / "folder" / "a b.txt")

    assert [(upload.path, upload.key) for upload in plan_uploads(file)] == [(file, "a b.txt")]


def test_a_folders_files_keep_their_paths_below_it_in_order(tmp_path: Path) -> None:
    """Nested folders are in the key, hidden files too, and the order does not depend on the disk."""
    names = ["B", "a/b/c", "a/ü #%+?.txt", ".hidden", "x" * 200, "a-b"]
    for name in names:
        write(tmp_path / name)

    assert [upload.key for upload in plan_uploads(tmp_path)] == sorted(names)


def test_an_empty_folder_gives_nothing(tmp_path: Path) -> None:
    """Nor does a folder of empty folders."""
    (tmp_path / "empty").mkdir()

    assert plan_uploads(tmp_path) == []


@pytest.mark.parametrize("under", ["in/here", "/in/here", "in/here/", "/in/here/"])
def test_all_come_under_the_folder_that_was_asked_for(tmp_path: Path, under: str) -> None:
    """Slashes around it make no difference."""
    write(tmp_path / "a")

    assert [upload.key for upload in plan_uploads(tmp_path, under)] == ["in/here/a"]


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    """A slip in a path is an error, not an empty upload."""
    with pytest.raises(UnusablePathError, match=f"^'{tmp_path}/nöwhere' is missing"):
        plan_uploads(tmp_path / "nöwhere")


def test_a_name_that_is_not_utf_8_is_an_error_that_shows_its_bytes(tmp_path: Path) -> None:
    """S3 keys are UTF-8 (AWS, "Naming Amazon S3 objects"); no name is changed in silence."""
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))

    with pytest.raises(UnusablePathError, match=r"caf\\xe9.*UTF-8"):
        plan_uploads(tmp_path)


def test_a_name_with_a_line_break_is_an_error(tmp_path: Path) -> None:
    """The S3 server answers 404 to such a key."""
    write(tmp_path / "a\nb")

    with pytest.raises(UnusablePathError, match="line break"):
        plan_uploads(tmp_path)


@pytest.mark.parametrize(("size_bytes", "fits"), [(1024, True), (1025, False)])
def test_a_key_has_1024_bytes_at_most(tmp_path: Path, size_bytes: int, fits: bool) -> None:  # noqa: FBT001 - a case
    """The limit is in bytes, not letters, and the folder it comes under counts (AWS, the same page)."""
    write(tmp_path / "é")
    under = "u" * (size_bytes - len("/é".encode()))

    if fits:
        assert len(plan_uploads(tmp_path, under)[0].key.encode()) == size_bytes
    else:
        with pytest.raises(UnusablePathError, match="1025 bytes"):
            plan_uploads(tmp_path, under)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """A pipe would block for ever; a broken link has nothing to read."""
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(UnusablePathError, match="broken"):
        plan_uploads(tmp_path)

    (tmp_path / "broken").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusablePathError, match="pipe"):
        plan_uploads(tmp_path)


def test_links_to_files_are_followed_and_links_to_folders_are_logged(tmp_path: Path) -> None:
    """A link to a folder may lead in a circle."""
    write(tmp_path / "real" / "file")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    (tmp_path / "circle").symlink_to(tmp_path)

    with capture_logs() as logs:
        keys = [upload.key for upload in plan_uploads(tmp_path)]

    assert keys == ["link", "real/file"]
    assert [entry["path"] for entry in logs] == [str(tmp_path / "circle")]


def test_a_file_that_may_not_be_read_is_named_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the question is answered for it here."""
    write(tmp_path / "closed")
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(UnusablePathError, match=r"closed.*permissions"):
        plan_uploads(tmp_path)


def test_paths_whose_names_meet_get_folders_of_their_own(tmp_path: Path) -> None:
    """Whoever names several files of one name, or folders that hold the same names, wants all of them."""
    for folder in ("a", "b", "c"):
        write(tmp_path / folder / "x")
    paths = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "c"]

    planned = {upload.key: upload.path for upload in plan_together(paths)}

    assert planned == {"x": paths[0], "2/x": paths[1], "3/x": paths[2] / "x"}
