"""`hash-worker hash`: lists for coreutils and b3sum, from folders, with odd names."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.odd_names import ODD_NAMES
from worker.hashing.reference import hash_bytes

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program in the test's folder; what it prints are bytes."""

    def start(*command: str | bytes, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=90, check=False, **options)

    return start


@pytest.fixture
def hash_(run: Run) -> Run:
    """Run `hash-worker hash …`."""
    return lambda *arguments, **options: run(sys.executable, "-m", "worker", "hash", *arguments, **options)


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Make a folder of files with odd names; each one's content is its name."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes(name)
    return folder


@pytest.mark.parametrize("form", [[], ["--tag"]])
def test_coreutils_take_the_list_of_a_folder_with_odd_names(
    hash_: Run, run: Run, odd_folder: Path, tmp_path: Path, form: list[str]
) -> None:
    """As it is written to a file, in either form; and it is byte for byte what md5sum writes."""
    listed = hash_("-r", "odd", "--algorithms", "md5", *form)
    (tmp_path / "list").write_bytes(listed.stdout)
    checked = run("md5sum", "--check", "--strict", "--quiet", "list")
    names = sorted(b"odd/" + name for name in ODD_NAMES)

    assert listed.returncode == 0
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert listed.stdout == run("md5sum", *form, "--", *names).stdout


def test_a_folder_has_a_list_for_each_algorithm(
    hash_: Run, run: Run, odd_folder: Path, tmp_path: Path
) -> None:
    """Each is called as its program expects, which takes it; and so do we take both of them."""
    written = hash_("-r", "odd", "--algorithms", "sha256,blake2b", "--output-dir", "lists")
    by_coreutils = [
        run(program, "--check", "--strict", "--status", f"lists/{name}").returncode
        for program, name in (("sha256sum", "SHA256SUMS"), ("b2sum", "B2SUMS"))
    ]
    by_us = hash_("--check", "--strict", "lists/SHA256SUMS", "lists/B2SUMS")

    assert (written.returncode, written.stdout) == (0, b"lists/SHA256SUMS\nlists/B2SUMS\n")
    assert by_coreutils == [0, 0]
    assert by_us.returncode == 0
    assert by_us.stdout.count(b": OK\n") == 2 * len(ODD_NAMES)


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_b3sum_takes_our_list_and_we_take_its(hash_: Run, run: Run, odd_folder: Path, tmp_path: Path) -> None:
    """Names that are no UTF-8 it can't write, and older versions can't read a carriage return."""
    for path in [*odd_folder.iterdir()]:
        if not path.name.isprintable() and "\n" not in path.name:
            path.unlink()

    written = hash_("-r", "odd", "--algorithms", "blake3", "--output-dir", ".")
    by_b3sum = run("b3sum", "--check", "B3SUMS")
    names = sorted(bytes(path.relative_to(tmp_path)) for path in odd_folder.iterdir())
    (tmp_path / "theirs.b3").write_bytes(run("b3sum", *names).stdout)
    by_us = hash_("--check", "theirs.b3")

    assert (written.returncode, by_b3sum.returncode, by_us.returncode) == (0, 0, 0)
    assert by_us.stdout.count(b": OK\n") == len(names)


def test_lists_in_the_folder_that_is_hashed_do_not_list_themselves(
    hash_: Run, run: Run, tmp_path: Path
) -> None:
    """Neither as they are written, nor as they were before: the second run gives the first one's lists."""
    (tmp_path / "file").write_bytes(b"abc")
    hash_("-r", ".", "--algorithms", "md5,sha1", "--output-dir", ".")
    first = (tmp_path / "MD5SUMS").read_bytes()

    hash_("-r", ".", "--algorithms", "md5,sha1", "--output-dir", ".")

    assert (tmp_path / "MD5SUMS").read_bytes() == first == b"900150983cd24fb0d6963f7d28e17f72  ./file\n"


def test_what_is_left_out_of_a_folder_is_told(hash_: Run, tmp_path: Path) -> None:
    """Once, on standard error: it is no fault, exit status 0."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"abc")
    (tmp_path / "folder/link").symlink_to(".")

    done = hash_("-r", "folder", "--algorithms", "md5")

    assert (done.returncode, done.stdout) == (0, b"900150983cd24fb0d6963f7d28e17f72  folder/file\n")
    assert done.stderr == (
        b"hash-worker: folder/link: A link to a folder is not followed; nothing in it was hashed.\n"
    )


def test_a_target_that_fails_is_not_in_the_lists(hash_: Run, tmp_path: Path) -> None:
    """The others are, and the exit status tells."""
    (tmp_path / "file").write_bytes(b"abc")

    done = hash_("file", "nowhere", "--algorithms", "md5", "--output-dir", "lists")

    assert done.returncode == 1
    assert done.stderr == b"hash-worker: nowhere: No such file or directory.\n"
    assert (tmp_path / "lists/MD5SUMS").read_bytes() == b"900150983cd24fb0d6963f7d28e17f72  file\n"


def test_lines_that_end_by_a_zero_byte_are_for_programs(hash_: Run, run: Run, odd_folder: Path) -> None:
    """As `md5sum --zero` writes them."""
    names = sorted(b"odd/" + name for name in ODD_NAMES)

    done = hash_("-r", "odd", "--algorithms", "md5", "-z")

    assert done.stdout == run("md5sum", "-z", "--", *names).stdout


def test_json_has_odd_names_too(hash_: Run, odd_folder: Path) -> None:
    """It is UTF-8, and names that are none come back as the bytes that they are."""
    done = hash_("-r", "odd", "nowhere", "--algorithms", "md5", "--json")

    *hashed, missing = json.loads(done.stdout.decode())
    assert {os.fsencode(item["target"]).removeprefix(b"odd/"): item["hashes"]["md5"] for item in hashed} == {
        name: hash_bytes(name, ["md5"])["md5"].hex() for name in ODD_NAMES
    }
    assert missing == {"target": "nowhere", "hashes": {}, "error": "nowhere: No such file or directory."}


def test_json_of_nothing_is_an_empty_array(hash_: Run, tmp_path: Path) -> None:
    """A program reads it as it reads any other."""
    (tmp_path / "empty").mkdir()

    done = hash_("-r", "empty", "--json")

    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_lists_that_can_not_be_begun_are_told_before_anything_is_read(hash_: Run, tmp_path: Path) -> None:
    """Exit status 2."""
    (tmp_path / "file").write_bytes(b"abc")

    done = hash_("nowhere", "--output-dir", "file/lists")

    assert done.returncode == 2
    assert done.stderr == b"hash-worker: A list in file/lists can't be written: Not a directory.\n"


FULL_DISK = """
import errno, os
from worker.cli import main

def refuse(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

os.fsync = refuse
main()
"""


def test_a_disk_that_is_full_is_told_and_no_list_is_there(run: Run, tmp_path: Path) -> None:
    """Neither in part: exit status 1. Some disks tell only when the bytes must be on them."""
    (tmp_path / "file").write_bytes(b"abc")
    options = ["--algorithms", "md5", "--output-dir", "lists"]

    done = run(sys.executable, "-c", FULL_DISK, "hash", "file", *options)

    assert done.returncode == 1
    assert done.stderr == b"hash-worker: A list in lists can't be written: No space left on device.\n"
    assert not list((tmp_path / "lists").iterdir())


def test_a_standard_output_that_is_full_is_told(hash_: Run, run: Run, tmp_path: Path) -> None:
    """In one sentence, without a traceback at the very end."""
    (tmp_path / "file").write_bytes(b"abc")

    done = run("sh", "-c", f"{sys.executable} -m worker hash file --algorithms md5 > /dev/full")

    assert done.returncode == 1
    assert done.stderr == b"hash-worker: Standard output can't be written: No space left on device.\n"


@pytest.mark.parametrize("options", ["", "--json", "--output-dir lists", "--check"])
def test_a_standard_output_that_is_closed_is_told(run: Run, tmp_path: Path, options: str) -> None:
    """Nothing printed is nothing done, whatever was hashed for it: exit status 1."""
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "list").write_bytes(run("md5sum", "file").stdout)
    target = "list" if options == "--check" else "file"

    done = run("sh", "-c", f"{sys.executable} -m worker hash {options} {target} --algorithms md5 >&-")

    assert done.returncode == 1
    assert done.stderr == b"hash-worker: Standard output can't be written: Bad file descriptor.\n"


def test_a_reader_that_has_left_ends_it_in_silence(hash_: Run, run: Run, tmp_path: Path) -> None:
    """As `head` leaves whatever writes to it."""
    for number in range(2000):
        (tmp_path / str(number)).write_bytes(b"abc")

    done = run("sh", "-c", f"{sys.executable} -m worker hash -r . --algorithms sha512 | head -n 1")

    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-c", "--tag", "x"], b"--recursive, --tag, --zero and --output-dir do not go with --check."),
        (["-c", "-r", "x"], b"--recursive, --tag, --zero and --output-dir do not go with --check."),
        (["--strict", "x"], b"--ignore-missing, --status, --strict and --warn go with --check."),
        (["--json", "-z", "x"], b"--tag, --zero and --output-dir do not go with --json."),
        (
            ["x", "--output-dir", "s3://b/lists"],
            b"--output-dir is for a folder of this machine; 's3://b/lists' is none.",
        ),
        (["x", "--output-dir", ""], b"--output-dir is for a folder of this machine; '' is none."),
        (
            ["x", "--algorithms", ","],
            b"--algorithms names no algorithm; `hash-worker algorithms` lists them.",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    hash_: Run, tmp_path: Path, arguments: list[str], sentence: bytes
) -> None:
    """Before anything is read or made: exit status 2."""
    done = hash_(*arguments)

    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"hash-worker: " + sentence + b"\n")
    assert not list(tmp_path.iterdir())
