"""Listing what is under a prefix, against a real S3 server over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from worker.storage.errors import NoSuchBucketError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from worker.storage.store import ObjectStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = 1000


async def _keys(store: ObjectStore, bucket: str, prefix: str) -> list[str]:
    return [key async for key, _ in store.list_objects(bucket, prefix)]


async def test_all_keys_under_a_prefix_come_with_their_sizes(
    store: ObjectStore, s3: S3Client, bucket: str
) -> None:
    """Odd ones among them; a prefix is no folder, so a key that is the prefix itself counts too."""
    keys = ["p/", "p/\x01\t\r!", "p/ a+b&c%20#?=", "p/x", "p/ünï/çødé 日本 😀"]
    for size, key in enumerate([*keys, "p", "q/x"]):
        await s3.put_object(Bucket=bucket, Key=key, Body=b"x" * size)

    listed = [item async for item in store.list_objects(bucket, "p/")]

    assert listed == [(key, size) for size, key in enumerate(keys)]


async def test_nothing_under_a_prefix_is_an_empty_list(store: ObjectStore, bucket: str) -> None:
    """Which is no error: a storage knows keys, not folders."""
    assert await _keys(store, bucket, "nothing/") == []


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def full_bucket(s3: S3Client) -> str:
    """Make a bucket with one object more than a page holds, once: it takes 20 s."""
    await s3.create_bucket(Bucket="full")
    for number in range(PAGE + 1):
        await s3.put_object(Bucket="full", Key=f"p/{number:04}", Body=b"")
    return "full"


async def test_a_list_of_several_pages_is_whole(store: ObjectStore, full_bucket: str) -> None:
    """Each key once, also the last of a page and the first of the next."""
    keys = [f"p/{number:04}" for number in range(PAGE + 1)]

    assert await _keys(store, full_bucket, "p/") == keys
    assert await _keys(store, full_bucket, "p/0") == keys[:PAGE]


async def test_a_bucket_that_is_not_there_is_told(store: ObjectStore) -> None:
    """As when one of its objects is asked for."""
    with pytest.raises(NoSuchBucketError, match="s3://no-such-bucket/p/"):
        await _keys(store, "no-such-bucket", "p/")
