"""One line of a list, without a file: what real programs make of it stands in tests/integration/targets."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.odd_names import file_names
from worker.hashing.algorithms import ALGORITHMS, Algorithm
from worker.hashing.registry import resolve
from worker.targets.lines import (
    AmbiguousDigestError,
    ImproperLineError,
    LineReader,
    read_manifest_line,
    write_line,
)

MD5 = "900150983cd24fb0d6963f7d28e17f72"
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.sampled_from(sorted(ALGORITHMS)), file_names(), st.booleans())
def test_a_line_that_was_written_is_read_again(algorithm: str, name: bytes, is_tagged: bool) -> None:  # noqa: FBT001
    """Whatever the name, and whatever the algorithm."""
    (row,) = resolve([algorithm])
    digest = bytes(range(row.digest_bytes))

    line = write_line(row, digest, os.fsdecode(name), is_tagged=is_tagged)
    entry = LineReader([row]).read(line.removesuffix(b"\n"))

    assert line.count(b"\n") == 1
    assert (os.fsencode(entry.name), entry.algorithm, entry.digest) == (name, row, digest)


@given(file_names())
def test_a_line_that_ends_by_a_zero_byte_has_the_name_as_it_is(name: bytes) -> None:
    """There is nothing to escape: no name has a zero byte."""
    (md5,) = resolve(["md5"])

    line = write_line(md5, bytes.fromhex(MD5), os.fsdecode(name), is_tagged=False, end=b"\0")

    assert line == MD5.encode() + b"  " + name + b"\0"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_line_or_an_improper_one(line: bytes) -> None:
    """Nothing else is raised, whatever a list holds."""
    try:
        entry = LineReader(resolve(["md5"])).read(line)
    except ImproperLineError:
        return
    assert entry.digest


@pytest.mark.parametrize(
    "line",
    [
        f"MD5 (x) = {MD5[:-1]}",
        f"MD5 (x) = {MD5[:-2]}zz",
        "MD5 (x) = kAFQmDzST7DWlj99KOF/c===",
        f"md5 (x) = {MD5}",
        f"SM3 (x) = {SHA256}",
        f"BLAKE2b-256 (x) = {SHA256}",
        f"{MD5[:-1]}  x",
        f"{MD5}",
        f"{MD5} ",
        f"\\{MD5}  ends in one backslash\\",
        f"\\{MD5}  \\t",
        f"{MD5}  \0",
    ],
)
def test_what_is_none_of_a_list_is_refused(line: str) -> None:
    """An unknown tag, a digest of another length, an escape that is none, a zero byte in a name."""
    with pytest.raises(ImproperLineError):
        LineReader(resolve(["md5"])).read(line.encode())


def test_a_tag_may_have_its_digest_in_base64() -> None:
    """As `cksum --base64` writes it."""
    entry = LineReader([]).read(b"MD5 (x) = kAFQmDzST7DWlj99KOF/cg==")

    assert entry.digest.hex() == MD5


def test_a_digest_that_may_be_of_several_algorithms_is_told() -> None:
    """Nobody can guess which of them it is, and the sentence says what to do."""
    reader = LineReader(resolve(["sha256", "blake3", "md5"]))

    with pytest.raises(AmbiguousDigestError) as caught:
        reader.read(f"{SHA256}  x".encode())

    assert str(caught.value) == (
        "A digest of 64 digits may be one of SHA256 or BLAKE3; say which by --algorithms."
    )
    assert reader.read(f"{MD5}  x".encode()).algorithm.name == "md5"


def _manifest(line: str) -> tuple[str, Algorithm, str]:
    entry = read_manifest_line(line.encode(), *resolve(["md5"]))
    return entry.name, entry.algorithm, entry.digest.hex()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"{MD5}  data/x", "data/x"),
        (f"{MD5} data/x", "data/x"),
        (f"{MD5}\t \tdata/x", "data/x"),
        (f"{MD5} *data/x", "data/x"),
        (f"{MD5.upper()}  data/x", "data/x"),
        (f"{MD5}  data/a%0Ab%0dc%25d", "data/a\nb\rc%d"),
        (f"{MD5}  data/100% %20 %41", "data/100% %20 %41"),
        (f"{MD5}  data/back\\slash ", "data/back\\slash "),
        (f"{MD5}  data/..x/y", "data/..x/y"),
    ],
)
def test_a_manifests_line_is_read_as_bagit_has_it(line: str, name: str) -> None:
    """Any white space before the path, an asterisk as md5sum has it, and three percent codes."""
    assert _manifest(line) == (name, ALGORITHMS["md5"], MD5)


@pytest.mark.parametrize(
    "line",
    [
        f"{MD5[:-2]}  x",
        f"{SHA256}  x",
        f"{MD5}",
        f"{MD5}  ",
        f"{MD5}  /etc/passwd",
        f"{MD5}  data/../../x",
        f"x {MD5}",
    ],
)
def test_a_manifests_path_does_not_leave_the_bag(line: str) -> None:
    """RFC 8493, section 5; nor is a digest of another length one of this manifest's."""
    with pytest.raises(ImproperLineError):
        _manifest(line)
