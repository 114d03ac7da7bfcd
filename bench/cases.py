"""The cases, their files, and what hashlib says of these."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from bench.work import READ_BYTES, Digests, GiB, KiB, MiB

# No multiple of any block or range, so that no two pieces of an object are alike.
_PATTERN_BYTES = 4 * MiB + 1
_SPARSE_FROM_BYTES = 2 * GiB
FOUR = ("md5", "sha1", "sha256", "blake3")


@dataclass(frozen=True, slots=True)
class Case:
    """Objects of one size, and what to hash them with.

    Args:
        letter: The name on the command line and in the results.
        title: For people.
        objects: How many.
        object_bytes: The size of each.
        algorithms: What to calculate.
        is_job: Whether the platform is told of each file; contenders that can't, don't run.
    """

    letter: str
    title: str
    objects: int
    object_bytes: int
    algorithms: tuple[str, ...] = FOUR
    is_job: bool = False

    @property
    def size_bytes(self) -> int:
        """The size of all objects together."""
        return self.objects * self.object_bytes

    def quarter(self) -> "Case":
        """Give the same case with a quarter of the bytes."""
        if self.is_job:
            return replace(self, objects=max(1, self.objects // 4))
        return replace(self, object_bytes=self.object_bytes // 4)

    @property
    def keys(self) -> tuple[str, ...]:
        """The objects' keys; cases of the same size share their objects."""
        return tuple(f"{self.object_bytes}-{index:05d}" for index in range(self.objects))


WARM_UP = Case("warm-up", "one of 16 KiB", 1, 16 * KiB)


def cases(scale: float) -> tuple[Case, ...]:
    """Give the cases; a scale below 1 shortens the large objects and takes fewer small ones."""
    one, eighth = _whole_mib(GiB * scale), _whole_mib(256 * MiB * scale)
    return (
        Case("A", "one of 1 GiB", 1, one),
        Case("B", "eight of 256 MiB at once", 8, eighth),
        Case("C", "5,000 of 16 KiB, a whole job", max(1, round(5000 * scale)), 16 * KiB, is_job=True),
        Case("D", "one of 1 GiB: md5, sha1, sha256", 1, one, FOUR[:3]),
        Case("E", "one of 1 GiB: sha512, blake3", 1, one, ("sha512", "blake3")),
    )


def make_files(folder: Path, case: Case) -> None:
    """Make the objects' files where they are missing; very large ones are sparse."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = random.Random(251).randbytes(_PATTERN_BYTES)  # noqa: S311 - bytes to hash, no secret
    for key in case.keys:
        path = folder / key
        if not path.exists() or path.stat().st_size != case.object_bytes:
            _make_file(path, case.object_bytes, pattern)


def expected_digests(folder: Path, case: Case) -> Digests:
    """Hash the files the plain way; this also brings them into the page cache."""
    with ThreadPoolExecutor() as threads:
        return {
            key: dict(
                threads.map(lambda name, path=folder / key: (name, _hex_digest(path, name)), case.algorithms)
            )
            for key in case.keys
        }


def new_hasher(name: str) -> "hashlib._Hash":
    """Make a hasher as a user's own function would."""
    # blake3's hasher has the same methods.
    return blake3() if name == "blake3" else hashlib.new(name)  # type: ignore[return-value]


def _hex_digest(path: Path, name: str) -> str:
    hasher = new_hasher(name)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def _make_file(path: Path, size_bytes: int, pattern: bytes) -> None:
    with path.open("wb") as file:
        file.write(path.name.encode()[:size_bytes])
        while size_bytes < _SPARSE_FROM_BYTES and file.tell() < size_bytes:
            file.write(pattern[: size_bytes - file.tell()])
        file.truncate(size_bytes)


def _whole_mib(size_bytes: float) -> int:
    return max(1, round(size_bytes / MiB)) * MiB
