"""Many real files at once."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path

import pytest

from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve
from worker.jobs.local_digests import SMALL_BYTES
from worker.settings import Settings, StorageSettings
from worker.targets.hashing import hash_targets, sizes_of
from worker.targets.sources import NoLanesError, Sources
from worker.targets.target import Hashed, Target

MD5 = resolve(["md5"])
VERSION = Path("/proc/version").read_bytes()


async def _each(targets: Iterable[Target]) -> AsyncIterator[Target]:
    for target in targets:
        yield target


async def _hash(targets: Iterable[Target], sources: Sources) -> list[Hashed]:
    async with aclosing(hash_targets(_each(targets), sources)) as results:
        return [hashed async for hashed in results]


async def test_answers_come_in_the_order_of_the_targets(sources: Sources, tmp_path: Path) -> None:
    """Large, small, missing, and more of them than may wait for one before them."""
    contents = [b"x" * size for size in (SMALL_BYTES + 1, *range(600))]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    paths[300].unlink()
    names = [str(path) for path in paths]

    results = await _hash([Target.of(name, MD5) for name in names], sources)

    assert [hashed.target.name for hashed in results] == names
    assert results[300].error == f"{names[300]}: No such file or directory."
    assert results[300].is_missing
    assert [hashed.digests for hashed in results if hashed.digests] == [
        hash_bytes(content, ["md5"]) for content in contents if content != b"x" * 299
    ]


@pytest.mark.parametrize(
    "size_bytes", [0, 1, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, SMALL_BYTES + 65537]
)
async def test_a_file_has_the_same_digests_with_lanes_and_without(
    sources: Sources, tmp_path: Path, size_bytes: int
) -> None:
    """A small one does without; every algorithm agrees with the plain reference."""
    names = ["md5", "sha3-256", "blake2b", "blake3", "crc32c", "crc64nvme", "xxh3-128"]
    content = (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]
    path = tmp_path / "file.bin"
    path.write_bytes(content)

    (hashed,) = await _hash([Target.of(str(path), resolve(names))], sources)

    assert hashed.digests == hash_bytes(content, names)


async def test_a_file_of_the_system_that_says_it_is_empty_is_read_to_its_end(sources: Sources) -> None:
    """Files under /proc have no size and many bytes."""
    (hashed,) = await _hash([Target.of("/proc/version", MD5)], sources)

    assert hashed.digests == hash_bytes(VERSION, ["md5"])


async def test_who_leaves_early_leaves_nothing_running(sources: Sources, tmp_path: Path) -> None:
    """A FIFO that nobody writes to would be waited for without end."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"abc")
    names = [str(tmp_path / "file"), str(tmp_path / "fifo"), str(tmp_path / "fifo")]

    async with aclosing(hash_targets(_each(Target.of(name, MD5) for name in names), sources)) as results:
        first = await anext(results)

    assert first.digests == hash_bytes(b"abc", ["md5"])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_where_there_can_be_no_lanes_that_is_told_once(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It concerns every target that is not small."""
    path = tmp_path / "large"
    path.write_bytes(b"x" * (SMALL_BYTES + 1))

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", refuse)

    with pytest.raises(NoLanesError, match=r"make hashing\.slots or hashing\.slot_bytes smaller"):
        await _hash([Target.of(str(path), MD5)] * 2, sources)


async def test_sizes_are_known_before_anything_is_read(sources: Sources, tmp_path: Path) -> None:
    """Of standard input nobody knows it, what is not there has none."""
    (tmp_path / "file").write_bytes(b"abc")
    names = [str(tmp_path / "file"), str(tmp_path / "nowhere"), "-", "s3://b/k", "s3:///"]

    sizes = [size async for size in sizes_of(_each(Target.of(name, MD5) for name in names), sources)]

    assert sizes == [3, 0, None, 0, 0]


async def test_a_storage_whose_endpoint_can_not_be_one_is_told() -> None:
    """What is a URL to the settings need not be an endpoint to the S3 client."""
    wrong = StorageSettings.model_validate(
        {"access_key": "a", "secret_key": "b", "endpoint_url": "http://a_b"}
    )

    async with Sources(Settings(storages={"default": wrong})) as sources:
        (hashed,) = await _hash([Target.of("s3://b/k", MD5)], sources)

    assert hashed.error == (
        "s3://b/k: its storage's endpoint can't be one (Invalid endpoint: http://a_b); "
        "correct it in the settings."
    )
