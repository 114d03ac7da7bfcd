from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from worker.local import s3 as s3_module
from worker.local.errors import MissingPartError
from worker.local.s3 import S3Server

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

PART_BYTES = 8 * 1024 * 1024
PERIOD = bytes(range(251))

KEYS = [
    *(
        "plain",
        "a b",
        "a  b",
        " before",
        "after ",
        "100%",
        "%41",
        "%2F",
        "a%2Fb",
        "h#sh",
        "a+b",
        "a&b=c",
        "a=b",
    ),
    *(
        "q?x",
        "q?versionId=1",
        "?acl",
        "acl",
        "uploads",
        "ü",
        "u\u0308",
        "日本/語",
        "😀",
        "é" * 200,
        "x" * 200,
    ),
    *("n/e/s/t/e/d", "folder/", ".hidden", "...", "a\\b", '"q"', "'q'", "<x>&amp;", "semi;colon", "co:lon"),
    *("star*", "t\tab", "c\rr", "at@", "!$(),", "[x]{y}", "|~^`", "x/" * 511 + "yz"),
]


def pattern(size_bytes: int) -> bytes:
    """Give bytes of period 251, so that parts that changed places change the object."""
    return (PERIOD * (size_bytes // 251 + 1))[:size_bytes]


@pytest.fixture
async def s3(tmp_path: Path, children: Callable[[], set[int]]) -> AsyncIterator[S3Server]:
    """Run a server with one bucket."""
    server = S3Server(tmp_path / "s3")
    await server.start()
    await server.create_bucket("archive")
    yield server
    await server.stop()


@pytest.fixture
async def client(s3: S3Server) -> AsyncIterator["S3Client"]:
    """Give a client that was made apart from the server's own."""
    async with get_session().create_client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        config=AioConfig(s3={"addressing_style": "path"}, proxies={}),
    ) as client:
        yield client


async def test_odd_keys_survive(s3: S3Server, client: "S3Client", tmp_path: Path) -> None:
    """Each key holds its own bytes, whatever letters it has, and the list has them all."""
    for number, key in enumerate(KEYS):
        path = tmp_path / "file"
        path.write_text(str(number))
        await s3.upload("archive", key, path)

    read = []
    for key in KEYS:
        answer = await client.get_object(Bucket="archive", Key=key)
        read.append(await answer["Body"].read())
    listed = await client.list_objects_v2(Bucket="archive")

    assert read == [str(number).encode() for number in range(len(KEYS))]
    assert {entry["Key"] for entry in listed["Contents"]} == set(KEYS)


@pytest.mark.parametrize(
    ("size_bytes", "in_parts"),
    [
        (0, False),
        (1, False),
        (PART_BYTES, False),
        (PART_BYTES + 1, True),
        (2 * PART_BYTES, True),
        (2 * PART_BYTES + 1, True),
    ],
)
async def test_a_file_comes_back_whole_in_parts_or_not(
    s3: S3Server, client: "S3Client", tmp_path: Path, size_bytes: int, *, in_parts: bool
) -> None:
    """Up to 8 MiB is one request; the ETag of more is marked with its number of parts, as on AWS."""
    path = tmp_path / "file"
    path.write_bytes(pattern(size_bytes))

    told = await s3.upload("archive", "key", path)

    answer = await client.get_object(Bucket="archive", Key="key")
    assert await answer["Body"].read() == pattern(size_bytes)
    assert told == size_bytes
    assert ("-" in answer["ETag"]) == in_parts


async def test_an_overwritten_object_keeps_its_older_version(
    s3: S3Server, client: "S3Client", tmp_path: Path
) -> None:
    """The bucket keeps versions, so that an object version can be pinned."""
    path = tmp_path / "file"
    versions = []
    for text in ("old", "new"):
        path.write_text(text)
        await s3.upload("archive", "key", path)
        versions.append((await client.head_object(Bucket="archive", Key="key"))["VersionId"])

    old = await client.get_object(Bucket="archive", Key="key", VersionId=versions[0])

    assert versions[0] != versions[1]
    assert await old["Body"].read() == b"old"


async def test_a_missing_wheel_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is an extra of this package."""
    monkeypatch.setattr(s3_module, "find_spec", lambda name: None)

    with pytest.raises(MissingPartError, match=r"moto .* install"):
        await S3Server(tmp_path / "s3").start()


async def test_a_server_that_never_began_can_be_stopped(tmp_path: Path) -> None:
    """Tearing down needs no questions."""
    server = S3Server(tmp_path / "s3")

    await server.stop()

    assert server.pid is None
