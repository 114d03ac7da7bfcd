"""Which files of a folder become which objects, decided before the first is sent."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

from worker.local.errors import UnusablePathError

_LONGEST_KEY_BYTES = 1024  # docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Upload:
    """One file and the key that its object will have."""

    path: Path
    key: str


def plan_uploads(path: Path, under: str = "") -> list[Upload]:
    """Return what a file, or every file below a folder, becomes, in order of the keys.

    A file's key is its name, a folder's files have their paths below it. Links to files are followed; links
    to folders are not, and are logged.

    Args:
        path: A file or a folder; an empty folder gives nothing.
        under: The folder that all of them come into; empty is none.

    Raises:
        UnusablePathError: A name cannot be a key, or something there is no file that can be read.
    """
    prefix = under.strip("/") + "/" if under.strip("/") else ""
    files = _walk(path) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    return sorted(
        (Upload(file, _checked_key(file, root, prefix)) for file in files), key=lambda upload: upload.key
    )


def plan_together(paths: Sequence[Path]) -> list[Upload]:
    """Return what several files and folders become; no two get the same key.

    A path of which any key is taken goes into a folder of its own: `2`, `3`, and so on.

    Raises:
        UnusablePathError: As in `plan_uploads`.
    """
    together: dict[str, Upload] = {}
    for path in paths:
        numbers = count(2)
        planned = plan_uploads(path)
        while any(upload.key in together for upload in planned):
            planned = plan_uploads(path, under=str(next(numbers)))
        together |= {upload.key: upload for upload in planned}
    return list(together.values())


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder, onerror=_unreadable):
        for name in folders:
            if (Path(where) / name).is_symlink():
                log.warning("A link to a folder is not followed", path=str(Path(where) / name))
        yield from (Path(where) / name for name in names)


def _checked_key(file: Path, root: Path, prefix: str) -> str:
    shown = str(file)
    if not file.is_file():
        raise UnusablePathError(f"{shown!r} is missing or no regular file: correct the path or move it away.")
    if not os.access(file, os.R_OK):
        raise UnusablePathError(f"{shown!r} cannot be read: change its permissions or move it away.")
    key = prefix + file.relative_to(root).as_posix()
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise UnusablePathError(
            f"The name of {os.fsencode(file)!r} is not UTF-8, as S3 needs it: rename it."
        ) from error
    if size_bytes > _LONGEST_KEY_BYTES:
        raise UnusablePathError(
            f"The key of {shown!r} would have {size_bytes} bytes, over S3's 1024: shorten it."
        )
    if "\n" in key:
        raise UnusablePathError(f"The name of {shown!r} has a line break, which moto refuses: rename it.")
    return key


def _unreadable(error: OSError) -> None:
    raise UnusablePathError(f"{error.filename!r} cannot be read: {error.strerror}.") from error
