"""What the store asks for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from aiohttp import web

from tests.support.faulty_s3 import ADDRESS, CONTENT, ETAG, FaultyS3, OneSlot, Slot, read
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.reader import read_object

if TYPE_CHECKING:
    from worker.storage.store import ObjectStore

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_range_asks_for_the_pinned_object_and_nothing_else(
    server: FaultyS3, store: ObjectStore
) -> None:
    """If-Match carries the ETag as it came, Range the bytes; there is no version id to name."""
    assert await read(store, 100, 50) == CONTENT[100:150]

    (request,) = server.requests
    assert (request.headers["If-Match"], request.headers["Range"]) == (ETAG, "bytes=100-149")
    assert not request.query.get("versionId")


async def test_a_version_id_is_part_of_every_request(server: FaultyS3, store: ObjectStore) -> None:
    """The pinned version is read even if a newer one comes meanwhile."""
    version = ObjectVersion(ObjectAddress("bucket", "key", "v&1"), ETAG, len(CONTENT))

    await store.read_range(version, 0, memoryview(bytearray(10)))

    assert server.requests[0].query["versionId"] == "v&1"
    assert server.requests[0].headers["If-Match"] == ETAG


@pytest.mark.parametrize("key", ["new\nline", "../up", "a/./b", "/lead", "a//b", "100%", "%2F", "a+b", "ünï"])
async def test_an_odd_key_reaches_the_server_as_it_is(server: FaultyS3, store: ObjectStore, key: str) -> None:
    """Nothing on the way decodes or tidies a path."""
    await store.pin(ObjectAddress("bucket", key))

    assert unquote(server.requests[0].raw_path) == f"/bucket/{key}"


async def test_a_bucket_of_another_region_is_read_with_a_new_signature(
    server: FaultyS3, store: ObjectStore
) -> None:
    """AWS answers 301 and names the region in a header; that is no redirect to elsewhere."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        if "/eu-west-7/s3/" in request.headers["Authorization"]:
            return await server.serve(request)
        return web.Response(status=301, headers={"x-amz-bucket-region": "eu-west-7"})

    server.faults.extend([fault] * 4)

    assert await read(store) == CONTENT
    asked_to_learn_it = len(server.asked)
    assert await read(store) == CONTENT
    assert asked_to_learn_it <= 3
    assert len(server.asked) == asked_to_learn_it + 1


async def test_more_requests_than_connections_wait_for_their_turn(
    server: FaultyS3, store: ObjectStore
) -> None:
    """However many callers there are, the storage sees no more than it was said to bear."""
    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(read(store, start, 100)) for start in range(0, 10_000, 100)]

    assert b"".join(reading.result() for reading in readings) == CONTENT
    assert "0 of 4 connections busy" in repr(store)


async def test_a_reader_asks_once_for_an_object_that_fits_a_slot(
    server: FaultyS3, store: ObjectStore
) -> None:
    """And once for each range of one that does not."""
    asked = {}
    for slot_bytes in (10_000, 9_999, 4_000):
        server.asked.clear()
        slot = Slot(memoryview(bytearray(slot_bytes)))
        content = bytearray()
        async with read_object(store, ADDRESS, OneSlot(slot), ranges_in_flight=1) as ranges:
            async for _, length in ranges:
                content += slot.view[:length]
        assert content == CONTENT
        asked[slot_bytes] = list(server.asked)

    assert asked == {
        10_000: ["0-9999"],
        9_999: ["0-9998", "9999-9999"],
        4_000: ["0-3999", "4000-7999", "8000-9999"],
    }
