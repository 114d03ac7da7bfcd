"""From what was asked for to files and objects, one by one: folders and prefixes are looked through."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import NamedTuple

from worker.hashing.algorithms import Algorithm
from worker.storage.object_version import ObjectAddress
from worker.targets.sources import Sources
from worker.targets.target import CONCERNS_ONE, S3, STANDARD_INPUT, Target, reason_of, shown

FileIdentity = tuple[int, int]
"""Device and inode: the same for all names of one file."""


class _Entry(NamedTuple):
    """What stands in a folder; a size of None: a folder."""

    path: str
    size_bytes: int | None
    error: str = ""
    left_out: str = ""


async def find_targets(
    names: Sequence[str],
    algorithms: Sequence[Algorithm],
    sources: Sources,
    *,
    is_recursive: bool = False,
    own_files: Collection[FileIdentity] = (),
    on_left_out: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Target]:
    """Find what is to be hashed, in the order of the names; nothing is read of it yet.

    Args:
        names: Paths, `-`, `s3://bucket/key`; with `is_recursive` also folders and `s3://bucket/prefix/`.
        algorithms: What to calculate.
        sources: What can list a bucket.
        is_recursive: Take the files under a folder, sorted by their paths' bytes, and the objects
            under a prefix. Links to files count as files; links to folders, and what is neither file nor
            folder, are left out.
        own_files: Files that are left out of folders without a word: those that are being written.
        on_left_out: Is told in a sentence of everything else in a folder that is left out.

    Yields:
        Targets; one that can't be looked through has its error.
    """
    for name in names:
        if is_recursive and _is_prefix(name):
            listing = _objects(name, algorithms, sources)
        elif name != STANDARD_INPUT and not name.startswith(S3) and _is_folder(name):
            listing = _files(name, algorithms, own_files, on_left_out) if is_recursive else _refused(name)
        else:
            yield Target.of(name, algorithms)
            continue
        async for target in listing:
            yield target


def _is_prefix(name: str) -> bool:
    """Tell `s3://bucket/prefix/`, and a bucket as a whole, from one object."""
    return name.startswith(S3) and (name.endswith("/") or "/" not in name.removeprefix(S3))


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 - a Path would drop the "./" that names are printed with


async def _refused(name: str) -> AsyncIterator[Target]:
    yield _failed(name, f"{shown(name)}: It is a folder; --recursive hashes the files in it.")


async def _files(
    folder: str,
    algorithms: Sequence[Algorithm],
    own_files: Collection[FileIdentity],
    on_left_out: Callable[[str], None],
) -> AsyncIterator[Target]:
    """Walk a folder without recursion: a tree may be deeper than Python's stack."""
    left = [_Entry(folder, None)]
    while left:
        entry = left.pop()
        if entry.error:
            yield _failed(entry.path, entry.error)
        elif entry.left_out:
            on_left_out(f"{shown(entry.path)}: {entry.left_out}")
        elif entry.size_bytes is not None:
            yield Target(entry.path, entry.path, tuple(algorithms), entry.size_bytes)
        else:
            left += reversed(await asyncio.to_thread(_entries, entry.path, own_files))


def _entries(folder: str, own_files: Collection[FileIdentity]) -> list[_Entry]:
    """List a folder so that all paths under it come in the order of their bytes."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for each in found if (entry := _entry(each, own_files))]
    except OSError as error:
        return [_Entry(folder, 0, reason_of(folder, error))]
    return sorted(entries, key=lambda entry: os.fsencode(entry.path) + b"/" * (entry.size_bytes is None))


def _entry(found: "os.DirEntry[str]", own_files: Collection[FileIdentity]) -> _Entry | None:
    try:
        if found.is_dir(follow_symlinks=False):
            return _Entry(found.path, None)
        status = found.stat()
    except OSError as error:
        return _Entry(found.path, 0, reason_of(found.path, error))
    if stat.S_ISDIR(status.st_mode):
        return _Entry(found.path, 0, left_out="A link to a folder is not followed; nothing in it was hashed.")
    if not stat.S_ISREG(status.st_mode):
        return _Entry(found.path, 0, left_out="It is neither a file nor a folder; it was not hashed.")
    if (status.st_dev, status.st_ino) in own_files:
        return None
    return _Entry(found.path, status.st_size)


async def _objects(name: str, algorithms: Sequence[Algorithm], sources: Sources) -> AsyncIterator[Target]:
    bucket, _, prefix = name.removeprefix(S3).partition("/")
    is_empty = True
    try:
        store = await sources.store_of(bucket)
        async for key, size_bytes in store.list_objects(bucket, prefix):
            is_empty = False
            address = ObjectAddress(bucket, key)
            yield Target(str(address), address, tuple(algorithms), size_bytes)
    except CONCERNS_ONE as error:
        yield _failed(name, reason_of(name, error))
        return
    if is_empty:
        yield _failed(name, f"There is nothing under {shown(name)}: see that the prefix is right.")


def _failed(name: str, error: str) -> Target:
    return Target(name, name, (), error=error)
