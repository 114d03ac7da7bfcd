"""Which algorithm a list is of, and how much of it can be read."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.hashing.registry import resolve
from worker.targets.reading import DigestList, algorithm_in_name, read_list

MD5 = "900150983cd24fb0d6963f7d28e17f72"
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SHA512 = "0" * 128


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("MD5SUMS", "md5"),
        ("SHA256SUMS", "sha256"),
        ("SHA256SUMS.txt", "sha256"),
        ("debian-12-sha512sums", "sha512"),
        ("B2SUMS", "blake2b"),
        ("B3SUMS", "blake3"),
        ("BLAKE2SSUMS", "blake2s"),
        ("CRC32CSUMS", "crc32c"),
        ("SHA3-256SUMS", "sha3-256"),
        ("photos.md5", "md5"),
        ("photos.tar.sha256sum", "sha256"),
        ("photos.b3", "blake3"),
        ("sha-256.txt", "sha256"),
        ("manifest-sha3256.txt", "sha3-256"),
        ("tagmanifest-sha512.txt", "sha512"),
        ("md5_and_sha1.txt", None),
        ("checksums.txt", None),
        ("amd5.txt", None),
        ("md55", None),
        ("sha", None),
        ("", None),
    ],
)
def test_a_lists_name_tells_its_algorithm_if_it_has_one_as_a_word(name: str, algorithm: str | None) -> None:
    """In capitals or not, with or without `sum` or `sums`; of two words none is right."""
    found = algorithm_in_name(name)

    assert (found and found.name) == algorithm


def _read(path: Path, text: str | bytes, *algorithms: str) -> DigestList:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(str(path), resolve(algorithms) if algorithms else ())


@pytest.mark.parametrize(
    ("digest", "algorithm"), [(MD5, "md5"), ("0" * 40, "sha1"), (SHA256, "sha256"), ("0" * 96, "sha384")]
)
def test_a_digests_length_tells_where_nothing_else_does(tmp_path: Path, digest: str, algorithm: str) -> None:
    """64 digits are SHA256's: whoever means BLAKE3 has a list that says so."""
    read = _read(tmp_path / "list", f"{digest}  x\n")

    assert [entry.algorithm.name for entry in read.entries] == [algorithm]


def test_a_length_that_two_of_coreutils_have_can_not_be_told(tmp_path: Path) -> None:
    """128 digits are of sha512sum or b2sum; the list is not checked in part."""
    read = _read(tmp_path / "list", f"{MD5}  x\n{SHA512}  x\n")

    assert not read.entries
    assert read.error.endswith(
        "list: A digest of 128 digits may be one of SHA512 or BLAKE2b; say which by --algorithms."
    )


def test_what_its_user_says_counts_more_than_its_name_and_a_tag_more_than_both(tmp_path: Path) -> None:
    """--algorithms is for untagged lines; each line says what its own digest is of."""
    read = _read(tmp_path / "SHA256SUMS", f"{SHA256}  x\nMD5 (x) = {MD5}\n", "blake3")

    assert [entry.algorithm.name for entry in read.entries] == ["blake3", "md5"]


def test_lines_that_are_none_are_known_by_their_numbers(tmp_path: Path) -> None:
    """Empty lines and comments are no fault; the last may lack its end, and all may end as on Windows."""
    text = f"# by hand\r\n\r\n{MD5}  x\r\nnonsense\r\n{SHA256}  x\n\n{MD5}  y"

    read = _read(tmp_path / "x.md5", text)

    assert [entry.name for entry in read.entries] == ["x", "y"]
    assert read.improper_lines == [4, 5]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_a_list_may_say_nothing(tmp_path: Path, text: str) -> None:
    """Which is no fault of any line."""
    read = _read(tmp_path / "list", text)

    assert (read.entries, read.improper_lines, read.error) == ([], [], "")


def test_bytes_without_a_line_end_do_not_fill_the_memory(tmp_path: Path) -> None:
    """They are one improper line, of which little is kept; the next line is read again."""
    read = _read(tmp_path / "list", b"\0" * 1_000_000 + f"\n{MD5}  x\nnonsense".encode())

    assert read.improper_lines == [1, 3]
    assert [entry.name for entry in read.entries] == ["x"]


@pytest.mark.parametrize("size_bytes", [65535, 65536, 65537, 200_000])
def test_a_comment_may_be_as_long_as_it_likes(tmp_path: Path, size_bytes: int) -> None:
    """Whatever its length, it is no fault, and the line behind it is not part of it."""
    read = _read(tmp_path / "list", "#" * (size_bytes - 1) + f"\n{MD5}  x\n")

    assert (len(read.entries), read.improper_lines) == (1, [])


def test_a_manifests_names_are_relative_to_its_bag(tmp_path: Path) -> None:
    """Wherever it is checked from; a list of any other name is relative to the current folder."""
    manifest = _read(tmp_path / "manifest-md5.txt", f"{MD5}  data/x\n")
    other = _read(tmp_path / "manifest-md5.list", f"{MD5}  data/x\n")

    assert (manifest.folder, other.folder) == (str(tmp_path), "")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_manifests_lines_may_end_by_any_of_three_ends(tmp_path: Path, end: str) -> None:
    """RFC 8493, section 2.1.3; a list of any other name may have a carriage return in a name."""
    text = f"{MD5} data/x{end}{MD5} data/\xe4{end}{MD5} data/z".encode()

    manifest = _read(tmp_path / "manifest-md5.txt", text)

    assert [entry.name for entry in manifest.entries] == ["data/x", "data/\xe4", "data/z"]
    assert manifest.improper_lines == []


def test_what_only_a_digests_length_tells_is_a_guess(tmp_path: Path) -> None:
    """Neither where a tag, nor where the list's name, nor where its user says it."""
    guessed = _read(tmp_path / "list", f"{SHA256}  x\nSHA256 (x) = {SHA256}\n")
    named = _read(tmp_path / "SHA256SUMS", f"{SHA256}  x\n")
    told = _read(tmp_path / "list", f"{SHA256}  x\n", "md5", "sha256")

    assert [entry.is_guess for entry in guessed.entries] == [True, False]
    assert [entry.is_guess for read in (named, told) for entry in read.entries] == [False, False]


def test_a_list_that_is_not_there_or_is_a_folder_says_so(tmp_path: Path) -> None:
    """In one sentence each."""
    missing = read_list(str(tmp_path / "x.md5"), ())
    folder = read_list(str(tmp_path), ())

    assert missing.error == f"{tmp_path}/x.md5: No such file or directory."
    assert folder.error == f"{tmp_path}: Is a directory."


def test_a_list_from_standard_input_can_not_name_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are read already."""
    stdin = SimpleNamespace(buffer=io.BytesIO(f"{MD5}  -\n{MD5}  x\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)

    read = read_list("-", ())

    assert [entry.name for entry in read.entries] == ["x"]
    assert read.improper_lines == [1]
