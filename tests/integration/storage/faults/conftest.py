from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.support.faulty_s3 import LIMITS, FaultyS3, access_to, read, serving
from worker.storage.access import StoreLimits
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[tuple[FaultyS3, str]]:
    """Run the misbehaving server."""
    handler = FaultyS3()
    async with serving(handler) as endpoint_url:
        yield handler, endpoint_url


@pytest_asyncio.fixture(loop_scope="module")
async def server(running: tuple[FaultyS3, str]) -> AsyncIterator[FaultyS3]:
    """Give the misbehaving server without a memory of earlier tests."""
    handler, _ = running
    handler.reset()
    yield handler
    handler.always = None  # another store may open before the next test begins
    handler.freed.set()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def store(running: tuple[FaultyS3, str], is_direct: bool) -> AsyncIterator[ObjectStore]:  # noqa: FBT001 - a fixture
    """Open the store under test."""
    async with ObjectStore(access_to(running[1]), LIMITS, is_direct=is_direct) as store:
        await read(store)  # the first range of a bucket goes by the library either way
        yield store


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def impatient_store(
    running: tuple[FaultyS3, str],
    is_direct: bool,  # noqa: FBT001 - a fixture
) -> AsyncIterator[ObjectStore]:
    """Open a store that waits for half a second, wants 20,000 bytes a second and soon is out of patience."""
    limits = StoreLimits(
        connect_timeout_seconds=0.1,
        stall_timeout_seconds=0.5,
        floor_bytes_per_second=20_000,
        attempts=2,
        first_pause_seconds=0.001,
        patience_seconds=0.05,
    )
    async with ObjectStore(access_to(running[1]), limits, is_direct=is_direct) as store:
        await read(store)
        yield store
