"""The stream over sockets, under the libraries that read files."""

import csv
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.faulty_s3 import LIMITS, access_to
from tests.support.file_s3 import FileS3, serving_files
from worker.queueing.loop_thread import LoopThread
from worker.storage.errors import NoSuchObjectError, ObjectChangedError
from worker.storage.object_version import ObjectAddress
from worker.storage.store import ObjectStore
from worker.storage.stream import ObjectStream, open_stream

MiB = 1024 * 1024
GiB = 1024 * MiB

HOLE = bytes(64 * MiB)

Open = Callable[..., ObjectStream]


class SparseFile(io.FileIO):
    """A file that takes no space for holes."""

    def write(self, data: Any, /) -> int:
        """Write, or leave a hole."""
        if data is not HOLE:
            return super().write(data)
        self.seek(len(data), os.SEEK_CUR)
        return len(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the bucket's folder."""
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def server(folder: Path) -> Iterator[FileS3]:
    """Serve it."""
    with serving_files(folder.parent) as thread:
        yield thread.resource


@pytest.fixture
def open_object(server: FileS3) -> Iterator[Open]:
    """Open an object of it by its name."""

    @asynccontextmanager
    async def store() -> AsyncIterator[ObjectStore]:
        async with ObjectStore(access_to(server.url), LIMITS) as opened:
            yield opened

    with LoopThread(store) as loop:
        yield lambda name, **sizes: open_stream(
            loop.resource, ObjectAddress("bucket", name), loop.start, **sizes
        )


def test_what_is_read_is_the_object(folder: Path, open_object: Open) -> None:
    """Read from one end to the other in pieces of any length, it is the object byte by byte."""
    content = os.urandom(3 * MiB + 7)
    (folder / "key").write_bytes(content)
    sha256 = hashlib.sha256()

    with open_object("key", range_bytes=256 * 1024) as stream:
        while piece := stream.read(100_003):
            sha256.update(piece)

    assert sha256.digest() == hashlib.sha256(content).digest()


def test_a_zip_of_one_gibibyte_is_listed_by_reading_less_than_four_mebibytes(
    folder: Path, server: FileS3, open_object: Open
) -> None:
    """Looking at the end of an object costs its end."""
    with SparseFile(folder / "large.zip", "w") as file, zipfile.ZipFile(file, "w") as made:
        for number in range(1000):
            made.writestr(f"small/{number}.txt", f"file {number}")
        with made.open("large.bin", "w", force_zip64=True) as member:
            for _ in range(GiB // len(HOLE)):
                member.write(HOLE)

    with open_object("large.zip") as stream, zipfile.ZipFile(stream) as listed:
        names = listed.namelist()
        text = listed.read("small/999.txt")

    assert stream.size_bytes > GiB
    assert (len(names), names[-1], text) == (1001, "large.bin", b"file 999")
    assert server.sent_bytes < 4 * MiB, server.ranges


def test_a_tar_is_gone_through_without_its_members_bytes(
    folder: Path, server: FileS3, open_object: Open
) -> None:
    """Skipping what lies between costs little, and a member is read whole."""
    with tarfile.open(folder / "many.tar", "w") as made:
        for number in range(20):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = MiB
            made.addfile(info, io.BytesIO(bytes([number]) * MiB))

    with open_object("many.tar") as stream, tarfile.open(fileobj=stream) as listed:
        names = listed.getnames()
        listed_bytes = server.sent_bytes
        member = listed.extractfile("7.bin")
        assert member is not None
        content = member.read()

    assert names == [f"{number}.bin" for number in range(20)]
    assert listed_bytes < 2 * MiB, server.ranges
    assert content == bytes([7]) * MiB


def test_a_compressed_tar_is_read(folder: Path, open_object: Open) -> None:
    """A library that reads through another one gets the right bytes."""
    with tarfile.open(folder / "one.tgz", "w:gz") as made:
        info = tarfile.TarInfo("a.txt")
        info.size = 5
        made.addfile(info, io.BytesIO(b"hello"))

    with open_object("one.tgz") as stream, tarfile.open(fileobj=stream) as listed:
        member = listed.extractfile("a.txt")
        assert member is not None
        content = member.read()

    assert content == b"hello"


def test_lines_of_text_are_read(folder: Path, open_object: Open) -> None:
    """The stream can be wrapped as text, whose characters may lie across ranges."""
    rows = [[str(number), 'größer, "als"\nzwei Zeilen'] for number in range(20_000)]
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)

    with io.TextIOWrapper(open_object("table.csv"), encoding="utf-8", newline="") as text:
        read = list(csv.reader(text))

    assert read == rows


def test_a_picture_is_opened(folder: Path, server: FileS3, open_object: Open) -> None:
    """Its size is known from its head; its points need the rest."""
    picture = Image.effect_noise((2000, 1500), 100)
    picture.save(folder / "noise.png")

    with open_object("noise.png") as stream, Image.open(stream) as opened:
        size, head_bytes = opened.size, server.sent_bytes
        points = opened.tobytes()

    assert size == (2000, 1500)
    assert head_bytes <= 64 * 1024
    assert points == picture.tobytes()


def test_one_who_reads_on_has_ranges_under_way(folder: Path, server: FileS3, open_object: Open) -> None:
    """A reader from end to end asks in long ranges, ahead of what it was asked for."""
    with (folder / "sparse").open("wb") as file:
        file.truncate(64 * MiB)

    with open_object("sparse", range_bytes=4 * MiB) as stream:
        stream.read(40 * MiB)
        ahead_bytes = server.sent_bytes
    lengths = [last - first + 1 for first, last in (map(int, one.split("-")) for one in server.ranges)]

    assert ahead_bytes > 40 * MiB
    assert max(lengths) == 4 * MiB
    assert len(lengths) < 30


def test_an_object_that_changes_is_an_error_and_stays_one(folder: Path, open_object: Open) -> None:
    """Bytes of two versions are never mixed, also not after a seek."""
    (folder / "key").write_bytes(bytes(MiB))
    stream = open_object("key")
    before = stream.read(1000)
    (folder / "key").write_bytes(bytes([1]) * MiB)

    with pytest.raises(ObjectChangedError, match=r"s3://bucket/key was changed while it was read"):
        stream.read()
    with pytest.raises(ObjectChangedError):
        stream.read(1)
    stream.seek(0)
    with pytest.raises(ObjectChangedError):
        stream.read(1)

    assert before == bytes(1000)


def test_an_object_that_is_not_there_is_told_at_once(open_object: Open) -> None:
    """Opening tells it, in one sentence that names the object."""
    with pytest.raises(NoSuchObjectError, match="There is no object s3://bucket/nothing"):
        open_object("nothing")


def test_an_empty_object_is_an_empty_file(folder: Path, open_object: Open) -> None:
    """It can be read and has nothing."""
    (folder / "empty").touch()

    with open_object("empty") as stream:
        read = stream.read(), stream.read(1), stream.size_bytes, stream.seek(0, os.SEEK_END)

    assert read == (b"", b"", 0, 0)
