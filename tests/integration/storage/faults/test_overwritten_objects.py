"""Objects that are overwritten while they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.faulty_s3 import (
    ADDRESS,
    CONTENT,
    ETAG,
    FaultyS3,
    OneSlot,
    Slot,
    bounds,
    cut,
    refuse,
)
from worker.storage.errors import ObjectChangedError
from worker.storage.reader import read_object

if TYPE_CHECKING:
    from worker.storage.store import ObjectStore

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_CONTENT = bytes(255 - byte for byte in CONTENT)
RANGE_BYTES = 2_500


@dataclass
class Overwritten:
    """Serves another object of the same size from some request on.

    Attributes:
        obeys_if_match: False as with servers that do not know it.
        served: How many answers it gave.
    """

    obeys_if_match: bool
    served: int = 0

    async def __call__(self, server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        """Answer as if the new object had always been there."""
        if self.obeys_if_match and request.headers.get("If-Match") == ETAG:
            return await refuse(412, "PreconditionFailed")(server, request)
        first, last = bounds(request)
        self.served += 1
        headers = {"ETag": '"new"', "Content-Range": f"bytes {first}-{last}/{len(CONTENT)}"}
        return web.Response(status=206, headers=headers, body=NEW_CONTENT[first : last + 1])


@pytest.mark.parametrize("obeys_if_match", [True, False])
@pytest.mark.parametrize("requests_before", [1, 2, 3])
@pytest.mark.parametrize("breaks", [False, True], ids=["between ranges", "within a range"])
async def test_an_object_overwritten_while_it_is_read_gives_no_digest(
    server: FaultyS3, store: ObjectStore, *, breaks: bool, requests_before: int, obeys_if_match: bool
) -> None:
    """Not even where the storage does not obey If-Match: the new ETag shows it."""
    server.faults.extend([FaultyS3.serve] * requests_before)
    if breaks:
        server.faults.append(cut(1_000))
    server.always = overwritten = Overwritten(obeys_if_match=obeys_if_match)
    slot = Slot(memoryview(bytearray(RANGE_BYTES)))
    content = bytearray()

    with pytest.raises(ObjectChangedError, match="s3://bucket/folder/key was changed"):  # noqa: PT012 - what came before the error is the point
        async with read_object(store, ADDRESS, OneSlot(slot), ranges_in_flight=1) as ranges:
            async for _, length in ranges:
                content += slot.view[:length]

    assert content == CONTENT[: requests_before * RANGE_BYTES]
    assert overwritten.served == (0 if obeys_if_match else 1)


async def test_the_object_that_is_there_now_is_read_whole(server: FaultyS3, store: ObjectStore) -> None:
    """Overwritten before the first request, it is simply another object."""
    server.always = Overwritten(obeys_if_match=True)
    slot = Slot(memoryview(bytearray(RANGE_BYTES)))
    content = bytearray()

    async with read_object(store, ADDRESS, OneSlot(slot), ranges_in_flight=1) as ranges:
        async for _, length in ranges:
            content += slot.view[:length]

    assert content == NEW_CONTENT
