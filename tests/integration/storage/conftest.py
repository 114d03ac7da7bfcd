from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import pytest_asyncio
from aiobotocore.session import AioSession
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.object_version import ObjectAddress
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from types_aiobotocore_s3 import S3Client


@pytest.fixture(scope="module", params=[True, False], ids=["direct", "library"])
def is_direct(request: pytest.FixtureRequest) -> bool:
    """Take either way to the storage: what holds for one holds for the other."""
    return bool(request.param)


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    """Run a real S3 server, moto, over HTTP on a free port."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def access(endpoint_url: str) -> StoreAccess:
    """Say where the S3 server is."""
    return StoreAccess(
        endpoint_url=endpoint_url,
        region="us-east-1",
        access_key="AKIATESTKEY",
        secret_key=SecretStr("hush-secret"),
        session_token=SecretStr("hush-token"),
        addressing_style="path",
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def store(access: StoreAccess, is_direct: bool) -> AsyncIterator[ObjectStore]:  # noqa: FBT001 - a fixture
    """Open the store under test, once, as a worker does: opening a client costs 0.1 s and more."""
    limits = StoreLimits(attempts=2, first_pause_seconds=0.001)
    async with ObjectStore(access, limits, is_direct=is_direct) as store:
        yield store


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def s3(endpoint_url: str) -> AsyncIterator[S3Client]:
    """Open a plain client, to arrange buckets and objects."""
    async with AioSession().create_client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(s3: S3Client, store: ObjectStore) -> str:
    """Make a bucket of the test's own, without versions."""
    name = f"plain-{uuid4()}"
    await s3.create_bucket(Bucket=name)
    await meet(store, s3, name)
    return name


@pytest_asyncio.fixture(loop_scope="module")
async def versioned_bucket(s3: S3Client, store: ObjectStore) -> str:
    """Make a bucket of the test's own that keeps versions."""
    name = f"versioned-{uuid4()}"
    await s3.create_bucket(Bucket=name)
    await s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    await meet(store, s3, name)
    return name


async def meet(store: ObjectStore, s3: S3Client, bucket: str) -> None:
    """Let the store read from a bucket: its first range there goes by the library either way."""
    await s3.put_object(Bucket=bucket, Key="first", Body=b"1")
    await store.read_first(ObjectAddress(bucket, "first"), memoryview(bytearray(1)), lambda _: None)
