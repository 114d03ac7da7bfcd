"""The store against a real S3 server over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from worker.storage.errors import (
    NoSuchBucketError,
    NoSuchObjectError,
    ObjectChangedError,
    ObjectOfflineError,
    StorageError,
)
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from worker.storage.access import StoreAccess

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A key with a newline is right here too, but moto itself answers 404 to it: see faults/test_requests.py.
ODD_KEYS = [
    "plain",
    "two words",
    " space before",
    "space behind ",
    "100%",
    "a%20b",
    "%2F",
    "a#b",
    "a+b",
    "a?b&c=d",
    "a?acl",
    "a?versionId=3",
    "ünï/çødé 日本 😀",
    "e\u0301 is not \u00e9",
    "x" * 220,
    "é" * 512,
    "n/e/s/t/e/d",
    "/slash before",
    "//two slashes before",
    "slash//slash",
    "slash behind/",
    "a/./b",
    "a/../b",
    "..",
    "tab\tcarriage return\r",
    "\x01\x7f",
    "quote\"'<>&\\;:~*=@,",
]


def pattern(size_bytes: int) -> bytes:
    """Make bytes whose period, 251, is a prime: swapping two ranges changes them."""
    return bytes(byte % 251 for byte in range(size_bytes))


async def read(store: ObjectStore, version: ObjectVersion, start: int, length: int) -> bytes:
    """Read one range."""
    destination = bytearray(length)
    await store.read_range(version, start, memoryview(destination))
    return bytes(destination)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_an_odd_key_is_read_as_it_is(store: ObjectStore, s3: S3Client, bucket: str, key: str) -> None:
    """Whatever characters a key holds, the object of exactly that key is read."""
    content = f"the object of {key!r}".encode()
    await s3.put_object(Bucket=bucket, Key=key, Body=content)

    version = await store.pin(ObjectAddress.parse(str(ObjectAddress(bucket, key))))

    assert version.address.key == key
    assert await read(store, version, 0, version.size_bytes) == content


async def test_a_pinned_version_tells_what_the_storage_knows(
    store: ObjectStore, s3: S3Client, bucket: str
) -> None:
    """Size, ETag and storage class are those of the object."""
    put = await s3.put_object(Bucket=bucket, Key="k", Body=b"abc")

    version = await store.pin(ObjectAddress(bucket, "k"))

    assert version == ObjectVersion(ObjectAddress(bucket, "k"), put["ETag"], 3, "STANDARD")


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 1000), (1, 998), (999, 1), (0, 0), (1000, 0)])
async def test_a_range_is_exactly_the_bytes_asked_for(
    store: ObjectStore, s3: S3Client, bucket: str, start: int, length: int
) -> None:
    """From the first byte to the last; an empty destination is filled at once."""
    content = pattern(1000)
    await s3.put_object(Bucket=bucket, Key="k", Body=content)
    version = await store.pin(ObjectAddress(bucket, "k"))

    assert await read(store, version, start, length) == content[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(0, 4), (3, 1), (-1, 1)])
async def test_a_range_outside_the_object_is_refused(
    store: ObjectStore, s3: S3Client, bucket: str, start: int, length: int
) -> None:
    """Whoever asks so has planned wrongly; S3 would answer with fewer bytes."""
    await s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
    version = await store.pin(ObjectAddress(bucket, "k"))

    with pytest.raises(ValueError, match="not within"):
        await read(store, version, start, length)


@pytest.mark.parametrize("later", [b"ABC", b"ABCD", b"A", b""])
async def test_an_object_overwritten_after_the_pin_was_changed_while_reading(
    store: ObjectStore, s3: S3Client, bucket: str, later: bytes
) -> None:
    """Whether it kept its size, grew, shrank or was emptied."""
    await s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
    version = await store.pin(ObjectAddress(bucket, "k"))
    await s3.put_object(Bucket=bucket, Key="k", Body=later)

    with pytest.raises(ObjectChangedError, match=f"s3://{bucket}/k"):
        await read(store, version, 0, 3)


async def test_an_object_deleted_after_the_pin_is_no_longer_there(
    store: ObjectStore, s3: S3Client, bucket: str
) -> None:
    """The same code as for one that never was."""
    await s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
    version = await store.pin(ObjectAddress(bucket, "k"))
    await s3.delete_object(Bucket=bucket, Key="k")

    with pytest.raises(NoSuchObjectError, match=f"s3://{bucket}/k"):
        await read(store, version, 0, 3)


async def test_where_versions_are_kept_the_pinned_one_is_read_to_its_end(
    store: ObjectStore, s3: S3Client, versioned_bucket: str
) -> None:
    """Overwriting and deleting make newer versions and leave the pinned one alone."""
    put = await s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"first")
    version = await store.pin(ObjectAddress(versioned_bucket, "k"))
    await s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"second")
    await s3.delete_object(Bucket=versioned_bucket, Key="k")

    assert version.address.version_id == put["VersionId"]
    assert await read(store, version, 0, 5) == b"first"


async def test_a_bucket_that_keeps_versions_is_read_the_direct_way_too(
    access: StoreAccess, s3: S3Client, versioned_bucket: str
) -> None:
    """The first answer pins a version id that was not asked for; what comes after asks for it."""
    await s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"abc")

    async with ObjectStore(access) as store:
        with capture_logs() as log:
            for _ in range(2):
                await store.read_first(
                    ObjectAddress(versioned_bucket, "k"), memoryview(bytearray(3)), lambda _: None
                )

        assert repr(store._direct).startswith("<DirectWay 1 buckets known")
    assert log == []


async def test_a_version_named_by_its_id_is_the_one_pinned(
    store: ObjectStore, s3: S3Client, versioned_bucket: str
) -> None:
    """Not the current one."""
    put = await s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"first")
    await s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"second")

    version = await store.pin(ObjectAddress(versioned_bucket, "k", put["VersionId"]))

    assert await read(store, version, 0, version.size_bytes) == b"first"


async def test_a_deleted_or_unknown_version_is_no_object(
    store: ObjectStore, s3: S3Client, versioned_bucket: str
) -> None:
    """A delete marker, as the current version or by its id, has no bytes; neither has an unknown id."""
    await s3.put_object(Bucket=versioned_bucket, Key="k", Body=b"first")
    marker = await s3.delete_object(Bucket=versioned_bucket, Key="k")

    for version_id in (None, marker["VersionId"], "unknown"):
        with pytest.raises(NoSuchObjectError, match=f"s3://{versioned_bucket}/k"):
            await store.pin(ObjectAddress(versioned_bucket, "k", version_id))


async def test_a_missing_object_is_told_from_a_missing_bucket(store: ObjectStore, bucket: str) -> None:
    """HEAD says 404 for both; the error says which."""
    with pytest.raises(NoSuchObjectError, match=f"s3://{bucket}/k"):
        await store.pin(ObjectAddress(bucket, "k"))
    with pytest.raises(NoSuchBucketError, match="s3://no-such-bucket/k"):
        await store.pin(ObjectAddress("no-such-bucket", "k"))


@pytest.mark.parametrize("name", ["no-such-bucket", "not a bucket's name", ""])
async def test_a_bucket_that_cannot_be_reached_says_so(store: ObjectStore, name: str) -> None:
    """Also one whose name no bucket can have."""
    with pytest.raises(NoSuchBucketError) as caught:
        await store.reach(name)

    assert f"s3://{name}" in str(caught.value)


async def test_a_bucket_that_is_there_is_reached(store: ObjectStore, bucket: str) -> None:
    """Nothing is raised, and no list of buckets is asked for."""
    await store.reach(bucket)


async def test_a_cold_object_is_offline_before_a_byte_is_read(
    store: ObjectStore, s3: S3Client, bucket: str
) -> None:
    """People read which storage class it lies in; once restored, it can be read."""
    await s3.put_object(Bucket=bucket, Key="k", Body=b"abc", StorageClass="GLACIER")

    with pytest.raises(ObjectOfflineError, match=f"s3://{bucket}/k.*GLACIER"):
        await store.pin(ObjectAddress(bucket, "k"))
    await s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1})
    restored = await store.pin(ObjectAddress(bucket, "k"))

    assert restored.storage_class == "GLACIER"
    assert await read(store, restored, 0, 3) == b"abc"


async def test_nothing_that_a_person_may_see_shows_a_secret(store: ObjectStore, access: StoreAccess) -> None:
    """Neither the error, nor its causes, nor the objects themselves."""
    with pytest.raises(StorageError) as caught:
        await store.pin(ObjectAddress("no-such-bucket", "k"))
    shown = [repr(store), repr(access), str(caught.value), repr(caught.value), repr(caught.value.__cause__)]

    assert "hush" not in "".join(shown)
