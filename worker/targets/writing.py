"""Lists in a folder, one for each algorithm: there whole at the end, or not at all."""

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from worker.hashing.algorithms import Algorithm

# As the programs that check them are called; the others go by their labels, as coreutils' do.
_PROGRAMS = {"blake2b": "B2", "blake3": "B3"}


def list_name(algorithm: Algorithm) -> str:
    """Name an algorithm's list as people expect it: MD5SUMS, SHA256SUMS, B3SUMS."""
    return f"{_PROGRAMS.get(algorithm.name, algorithm.label.upper())}SUMS"


class ListFiles:
    """The lists being written: to be opened, written, finished, and closed in any case.

    Args:
        folder: Where to write; it is made if it is not there.
        algorithms: A list for each.

    Attributes:
        folder: as given.

    Raises:
        OSError: From opening, writing and finishing: the folder or a list can't be written.
    """

    def __init__(self, folder: Path, algorithms: Sequence[Algorithm]) -> None:
        self.folder = folder
        self._algorithms = algorithms
        self._files: dict[str, BinaryIO] = {}

    @property
    def paths(self) -> list[Path]:
        """The lists' paths, in the order of the algorithms."""
        return [self.folder / list_name(algorithm) for algorithm in self._algorithms]

    def open(self) -> None:
        """Begin all lists, beside their places; what a killed process has left there is in nobody's way."""
        if len(set(self.paths)) < len(self.paths):
            raise OSError(errno.EEXIST, "two of the algorithms have lists of the same name")
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as if_it_fails:
            if_it_fails.callback(self.close)
            for algorithm in self._algorithms:
                path = self.folder / f".{list_name(algorithm)}.{uuid4()}"
                self._files[algorithm.name] = path.open("xb")
            if_it_fails.pop_all()

    def identities(self) -> set[tuple[int, int]]:
        """Give device and inode of the lists being written, and of the older ones that they replace."""
        statuses = [os.fstat(file.fileno()) for file in self._files.values()]
        for path in self.paths:
            with suppress(FileNotFoundError):
                statuses.append(path.stat())
        return {(status.st_dev, status.st_ino) for status in statuses}

    def write(self, algorithm: Algorithm, line: bytes) -> None:
        """Add a line to an algorithm's list."""
        self._files[algorithm.name].write(line)

    def finish(self) -> None:
        """Put all lists in their places; nothing may be written after it."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        for file, path in zip(self._files.values(), self.paths, strict=True):
            Path(file.name).replace(path)

    def close(self) -> None:
        """Leave nothing behind of what is not finished; without an error. Twice is fine."""
        for file in self._files.values():
            with suppress(OSError):  # closing writes what is left, perhaps to a full disk
                file.close()
            Path(file.name).unlink(missing_ok=True)
