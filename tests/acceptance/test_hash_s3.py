"""`hash-worker hash` with objects on a real S3 server."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiobotocore.session import AioSession

from worker.local.platform import LocalPlatform

CONTENT = bytes(range(251)) * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest_asyncio.fixture
async def s3(platform: LocalPlatform) -> Any:
    """Open a plain client, to arrange objects."""
    async with AioSession().create_client(
        "s3",
        endpoint_url=platform.s3_endpoint,
        region_name=platform.region,
        aws_access_key_id=platform.s3_access_key,
        aws_secret_access_key=platform.s3_secret_key,
    ) as client:
        yield client


@pytest.fixture
def hash_(hash_worker: Any, environment: dict[str, str]) -> Any:
    """Run `hash-worker hash …` with the settings of the platform's storage."""

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(hash_worker, "hash", *arguments, env=environment)

    return run


async def test_an_object_is_hashed_with_the_credentials_of_its_bucket(hash_: Any, s3: Any) -> None:
    """`s3://bucket/key` with an odd key, and one that is not there."""
    await s3.put_object(Bucket="archive", Key="an object #1.bin", Body=CONTENT)

    done = await hash_("--json", "s3://archive/an object #1.bin", "s3://archive/nothing")

    found, missing = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["hashes"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert missing["error"].startswith("There is no object s3://archive/nothing")


async def test_a_version_is_hashed_by_its_id(hash_: Any, s3: Any) -> None:
    """Not the one that is there now; each is printed as it was asked for."""
    put = await s3.put_object(Bucket="archive", Key="k", Body=CONTENT)
    await s3.put_object(Bucket="archive", Key="k", Body=b"abc")
    first = f"s3://archive/k?versionId={put['VersionId']}"

    done = await hash_("--algorithms", "md5", first, "s3://archive/k")

    assert done.stdout == f"{MD5}  {first}\n900150983cd24fb0d6963f7d28e17f72  s3://archive/k\n"


async def test_all_objects_under_a_prefix_are_hashed_and_their_list_checked(
    hash_: Any, s3: Any, tmp_path: Path
) -> None:
    """A prefix ends with a slash, so nothing beside it is meant; a list of objects is one like any other."""
    for key in ("p/b", "p/a b", "p/c/d", "p/", "pq", "other"):
        await s3.put_object(Bucket="archive", Key=key, Body=CONTENT)

    written = await hash_("-r", "s3://archive/p/", "--algorithms", "md5", "--output-dir", "lists")
    await s3.put_object(Bucket="archive", Key="p/b", Body=b"changed")
    await s3.delete_object(Bucket="archive", Key="p/c/d")
    checked = await hash_("--check", "lists/MD5SUMS")
    without_missing = await hash_("--check", "--quiet", "--ignore-missing", "lists/MD5SUMS")

    assert written.returncode == 0
    assert (tmp_path / "lists/MD5SUMS").read_text().splitlines() == [
        f"{MD5}  s3://archive/{key}" for key in ("p/", "p/a b", "p/b", "p/c/d")
    ]
    assert checked.stdout.splitlines() == [
        "s3://archive/p/: OK",
        "s3://archive/p/a b: OK",
        "s3://archive/p/b: FAILED",
        "s3://archive/p/c/d: FAILED open or read",
    ]
    assert without_missing.stdout == "s3://archive/p/b: FAILED\n"
    assert without_missing.stderr == "hash-worker: WARNING: 1 computed checksum did NOT match\n"


async def test_a_bucket_as_a_whole_is_a_prefix_too(hash_: Any, s3: Any) -> None:
    """With a slash behind it or without; local files may stand beside it."""
    await s3.put_object(Bucket="archive", Key="k", Body=b"abc")

    done = await hash_("-r", "s3://archive", "s3://archive/", "s3://archive/k", "--algorithms", "md5")

    assert done.stdout == "900150983cd24fb0d6963f7d28e17f72  s3://archive/k\n" * 3


async def test_a_prefix_with_nothing_under_it_and_one_without_recursive_are_told(hash_: Any) -> None:
    """Exit status 1 each; a bucket that is not there is told as such."""
    empty = await hash_("-r", "s3://archive/nothing/", "s3://no-bucket/")
    not_recursive = await hash_("s3://archive/p/")

    assert (empty.returncode, not_recursive.returncode) == (1, 1)
    nothing, no_credentials = empty.stderr.splitlines()
    assert nothing == (
        "hash-worker: There is nothing under s3://archive/nothing/: see that the prefix is right."
    )
    assert no_credentials.startswith("hash-worker: s3://no-bucket/: the settings hold no S3 credentials")
    assert not_recursive.stderr == (
        "hash-worker: There is no object s3://archive/p/; --recursive hashes those under this prefix.\n"
    )
