"""Lists against the programs that made the format: md5sum and its like of GNU coreutils, and b3sum."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.odd_names import ODD_NAMES, file_names, file_names_of_b3sum
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve
from worker.targets.lines import write_line
from worker.targets.reading import read_list

PROGRAMS = {
    "md5sum": "md5",
    "sha1sum": "sha1",
    "sha224sum": "sha224",
    "sha256sum": "sha256",
    "sha384sum": "sha384",
    "sha512sum": "sha512",
    "b2sum": "blake2b",
}
MD5 = hash_bytes(b"abc", ["md5"])["md5"].hex()
needs_b3sum = pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")


@contextmanager
def _files(names: Sequence[bytes]) -> Iterator[Path]:
    """Make files in a folder of their own; each one's content is its name."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            with open(os.path.join(os.fsencode(folder), name), "wb") as file:  # noqa: PTH118,PTH123 - bytes
                file.write(name)
        yield Path(folder)


def _list(algorithm: str, names: Sequence[bytes], *, is_tagged: bool) -> bytes:
    (row,) = resolve([algorithm])
    return b"".join(
        write_line(row, hash_bytes(name, [algorithm])[algorithm], os.fsdecode(name), is_tagged=is_tagged)
        for name in names
    )


def _run(folder: Path, *command: str | bytes, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False)


def _read(folder: Path, content: bytes, *algorithms: str) -> list[tuple[bytes, str, bytes]]:
    path = folder.with_name(folder.name + ".list")
    path.write_bytes(content)
    read = read_list(str(path), resolve(algorithms) if algorithms else ())
    path.unlink()
    assert (read.improper_lines, read.error) == ([], "")
    return [(os.fsencode(entry.name), entry.algorithm.name, entry.digest) for entry in read.entries]


@pytest.mark.parametrize("is_tagged", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
@settings(max_examples=15)
@given(names=st.lists(file_names(), min_size=1, max_size=8, unique=True))
def test_a_list_of_ours_is_what_coreutils_writes_and_takes(
    program: str,
    is_tagged: bool,  # noqa: FBT001 - a parameter of the test
    names: list[bytes],
) -> None:
    """Byte for byte, whatever the names."""
    algorithm = PROGRAMS[program]

    with _files(names) as folder:
        ours = _list(algorithm, names, is_tagged=is_tagged)
        theirs = _run(folder, program, *["--tag"] * is_tagged, "--", *names).stdout
        checked = _run(folder, program, "--check", "--strict", "--status", stdin=ours)
        read = _read(folder, theirs, algorithm)

    assert ours == theirs
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert read == [(name, algorithm, hash_bytes(name, [algorithm])[algorithm]) for name in names]


@settings(max_examples=15)
@given(names=st.lists(file_names(), min_size=1, max_size=8, unique=True))
def test_lists_of_cksum_are_read(names: list[bytes]) -> None:
    """Their tags tell the algorithm of each line."""
    algorithms = ["md5", "sha256", "blake2b"]

    with _files(names) as folder:
        theirs = b"".join(_run(folder, "cksum", "-a", each, "--", *names).stdout for each in algorithms)
        read = _read(folder, theirs)

    assert read == [(name, each, hash_bytes(name, [each])[each]) for each in algorithms for name in names]


@settings(max_examples=15)
@given(names=st.lists(file_names(), min_size=1, max_size=8, unique=True))
def test_lines_that_end_by_a_zero_byte_are_those_of_coreutils(names: list[bytes]) -> None:
    """No name is escaped in them."""
    (row,) = resolve(["md5"])
    ours = b"".join(
        write_line(row, hash_bytes(name, ["md5"])["md5"], os.fsdecode(name), is_tagged=False, end=b"\0")
        for name in names
    )

    with _files(names) as folder:
        theirs = _run(folder, "md5sum", "--zero", "--", *names).stdout

    assert ours == theirs


@needs_b3sum
@settings(max_examples=25)
@given(names=st.lists(file_names_of_b3sum(), min_size=1, max_size=8, unique=True))
def test_a_list_of_ours_is_what_b3sum_writes_and_takes(names: list[bytes]) -> None:
    """Byte for byte, whatever the names."""
    with _files(names) as folder:
        ours = _list("blake3", names, is_tagged=False)
        theirs = _run(folder, "b3sum", "--", *names).stdout
        checked = _run(folder, "b3sum", "--check", "--quiet", "-", stdin=ours)
        read = _read(folder, theirs, "blake3")

    assert ours == theirs
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert read == [(name, "blake3", hash_bytes(name, ["blake3"])["blake3"]) for name in names]


_DIGESTS = st.sampled_from([MD5, MD5.upper(), "0" * 32, MD5[:-1], MD5 + "0", "x" + MD5[1:]])
_SPACES = st.sampled_from(["", " ", "  ", "\t", " *", "   ", " \t"])
_NAMES = st.sampled_from(["abc", " abc", "*abc", "a\\\\b", "a\\nb", "a\\b", "nowhere", "", "(abc)", "abc\\"])
_LINES = st.one_of(
    st.builds("{}{}{}{}{}".format, _SPACES, st.sampled_from(["", "\\"]), _DIGESTS, _SPACES, _NAMES),
    st.builds(
        "{}{}{}{}({}){}={}{}".format,
        _SPACES,
        st.sampled_from(["", "\\"]),
        st.sampled_from(["MD5", "md5", "SHA1", "MD5-"]),
        _SPACES,
        _NAMES,
        _SPACES,
        _SPACES,
        _DIGESTS,
    ),
    st.sampled_from(["", "#", " ", "\r", "\x0b", "nonsense", f"{MD5}  abc\r", f"{MD5} \x0cabc"]),
)


@settings(max_examples=200)
@given(lines=st.lists(_LINES, max_size=6))
def test_any_list_means_to_us_what_it_means_to_md5sum(lines: list[str]) -> None:
    """The same lines are improper, and the others name the same files with the same digests."""
    there = dict.fromkeys(("abc", " abc", "*abc", "a\\b", "a\nb", "(abc)"), b"abc")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in there.items():
            Path(folder, name).write_bytes(content)
        path = Path(folder, "list.md5")
        path.write_text("\n".join(lines), newline="")
        theirs = _run(Path(folder), "md5sum", "--check", "--warn", "list.md5")
        ours = read_list(str(path), ())

    outcomes = []
    for entry in ours.entries:
        is_right = entry.digest.hex() == MD5
        outcome = "OK" if is_right else "FAILED"
        outcomes.append(outcome if entry.name in there else "FAILED open or read")
    improper = re.findall(r"list\.md5: (\d+): improperly", theirs.stderr.decode())
    assert ours.improper_lines == [*map(int, improper)]
    assert re.findall(r": ([A-Za-z ]+)$", theirs.stdout.decode(), re.MULTILINE) == outcomes


def test_odd_names_are_all_files_here() -> None:
    """What stands in the tests' list of odd names can really be made."""
    with _files(ODD_NAMES) as folder:
        assert len(os.listdir(folder)) == len(set(ODD_NAMES))  # noqa: PTH208 - counted only
