"""Lists in a folder: whole, or not there."""

from pathlib import Path

import pytest

from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.registry import resolve
from worker.targets.writing import ListFiles, list_name

MD5_AND_BLAKE3 = resolve(["md5", "blake3"])


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [("md5", "MD5SUMS"), ("sha3-256", "SHA3-256SUMS"), ("blake2b", "B2SUMS"), ("blake3", "B3SUMS")],
)
def test_a_list_is_called_as_people_expect_it(algorithm: str, name: str) -> None:
    """As the programs that check it are."""
    assert list_name(ALGORITHMS[algorithm]) == name


def test_finished_lists_take_the_place_of_older_ones(tmp_path: Path) -> None:
    """The folder is made; nothing else is left in it."""
    folder = tmp_path / "new" / "lists"
    for text in (b"older", b"newer"):
        files = ListFiles(folder, MD5_AND_BLAKE3)
        files.open()
        files.write(MD5_AND_BLAKE3[0], text)
        files.finish()
        files.close()

    assert sorted(path.name for path in folder.iterdir()) == ["B3SUMS", "MD5SUMS"]
    assert [path.read_bytes() for path in files.paths] == [b"newer", b""]


def test_lists_that_are_not_finished_leave_older_ones_as_they_were(tmp_path: Path) -> None:
    """And nothing of themselves."""
    (tmp_path / "MD5SUMS").write_bytes(b"older")
    files = ListFiles(tmp_path, MD5_AND_BLAKE3)
    files.open()
    files.write(MD5_AND_BLAKE3[0], b"newer")

    files.close()

    assert [path.name for path in tmp_path.iterdir()] == ["MD5SUMS"]
    assert (tmp_path / "MD5SUMS").read_bytes() == b"older"


def test_where_one_list_can_not_be_begun_none_is(tmp_path: Path) -> None:
    """Nothing is left of the one before it."""
    files = ListFiles(tmp_path, [MD5_AND_BLAKE3[0], MD5_AND_BLAKE3[1]._replace(name="x", label="x" * 300)])

    with pytest.raises(OSError, match="File name too long"):
        files.open()

    assert not list(tmp_path.iterdir())


def test_algorithms_whose_lists_have_one_name_are_refused(tmp_path: Path) -> None:
    """One list would take the other's place: one that is added may be called as blake3's is."""
    files = ListFiles(tmp_path, [MD5_AND_BLAKE3[1], MD5_AND_BLAKE3[0]._replace(name="b3", label="b3")])

    with pytest.raises(OSError, match="two of the algorithms have lists of the same name"):
        files.open()

    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container each process may have the same id as the one before it."""
    killed, files = ListFiles(tmp_path, MD5_AND_BLAKE3), ListFiles(tmp_path, MD5_AND_BLAKE3)
    killed.open()

    files.open()
    files.finish()
    files.close()
    killed.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["B3SUMS", "MD5SUMS"]


def test_lists_know_the_files_that_they_write_and_replace(tmp_path: Path) -> None:
    """So that a list in the very folder that is hashed does not list itself."""
    (tmp_path / "MD5SUMS").write_bytes(b"older")
    files = ListFiles(tmp_path, MD5_AND_BLAKE3)
    files.open()

    identities = files.identities()
    there = {(path.stat().st_dev, path.stat().st_ino) for path in tmp_path.iterdir()}
    files.close()

    assert identities == there
    assert len(there) == 3
