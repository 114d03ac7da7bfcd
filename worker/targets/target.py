"""One thing to be hashed: a local file, standard input or an S3 object; and what came of it."""

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import HashingError
from worker.jobs.errors import FileNotHashedError
from worker.storage.errors import StorageError
from worker.storage.object_version import ObjectAddress

S3 = "s3://"
STANDARD_INPUT = "-"

CONCERNS_ONE = (OSError, StorageError, FileNotHashedError, HashingError)
"""What goes wrong with one target; the others go on."""


def check_standard_input() -> None:
    """Make sure that there is one: where it was closed, its descriptor is by now that of anything.

    Raises:
        OSError: There is none.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be hashed, or the news that it can't be.

    Attributes:
        name: how it was given, or how it is listed; bytes that are no UTF-8 are as `os.fsdecode` has them.
        source: the path of a local file, STANDARD_INPUT, or where the object is.
        algorithms: what to calculate.
        size_bytes: its size, if that was told already.
        error: a sentence: why it can't be hashed, if that is known already.
    """

    name: str
    source: str | ObjectAddress
    algorithms: tuple[Algorithm, ...]
    size_bytes: int | None = None
    error: str = ""

    @classmethod
    def of(cls, name: str, algorithms: Sequence[Algorithm], folder: str = "") -> "Target":
        """Make a target of what a person wrote.

        Args:
            name: A path, `-` for standard input, or `s3://bucket/key` with or without `?versionId=…`.
            algorithms: What to calculate.
            folder: What a relative path is relative to; nothing means the current one. A name in a folder is
                always a path.
        """
        if folder:
            return cls(name, f"{folder}/{name}", tuple(algorithms))
        if not name.startswith(S3):
            return cls(name, name, tuple(algorithms))
        try:
            return cls(name, ObjectAddress.parse(name), tuple(algorithms))
        except StorageError as error:
            return cls(name, name, tuple(algorithms), error=str(error))


@dataclass(frozen=True, slots=True)
class Hashed:
    """What came of a target.

    Attributes:
        target: what was to be hashed.
        digests: by the algorithms' names; empty where there are none.
        error: a sentence: why there are none.
        is_missing: nothing is there by its name.
    """

    target: Target
    digests: dict[str, bytes]
    error: str = ""
    is_missing: bool = False

    def as_json(self) -> dict[str, Any]:
        """Give it as a JSON object."""
        digests = {name: digest.hex() for name, digest in self.digests.items()}
        return {"target": self.target.name, "hashes": digests, "error": self.error or None}


def shown(name: str) -> str:
    """Give a name as it can stand in a sentence: what can't be printed is escaped."""
    return name if name.isprintable() else ascii(name)


def reason_of(name: str, error: Exception) -> str:
    """Say in a sentence which target went wrong, and why."""
    if isinstance(error, StorageError):
        return str(error)  # it names the object
    what = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    return f"{shown(name)}: {what.removesuffix('.')}."
