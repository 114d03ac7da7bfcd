"""The first range, which pins the object version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_s3 import (
    ADDRESS,
    CONTENT,
    ETAG,
    VERSION,
    FaultyS3,
    answer,
    chunked,
    cut,
    empty_object,
    read_first,
    refuse,
    reset,
)
from worker.storage.errors import ObjectChangedError
from worker.storage.object_version import ObjectVersion

if TYPE_CHECKING:
    from tests.support.faulty_s3 import Fault
    from worker.storage.store import ObjectStore

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("length", [1, 9_999, 10_000, 10_001])
async def test_the_first_range_pins_the_object_in_one_request(
    server: FaultyS3, store: ObjectStore, length: int
) -> None:
    """Whether the object is longer, as long or shorter than the memory for it."""
    pinned, content = await read_first(store, length)

    assert pinned == [VERSION]
    assert content[:10_000] == CONTENT[:length]
    assert server.asked == [f"0-{length - 1}"]
    assert "If-Match" not in server.requests[0].headers


@pytest.mark.parametrize("fault", [cut(4_000), reset(4_000), chunked(CONTENT[:4_000])])
async def test_a_first_range_that_breaks_goes_on_with_the_version_it_pinned(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """Its bytes must not be followed by those of another version."""
    server.faults.append(fault)

    pinned, content = await read_first(store)

    assert pinned == [VERSION]
    assert content[:10_000] == CONTENT
    assert server.asked[1].endswith("-9999") or server.asked[1] == "0-19999"  # the reset swallowed the head
    assert server.requests[-1].headers.get("If-Match", ETAG) == ETAG


@pytest.mark.parametrize(
    "then", [refuse(412, "PreconditionFailed"), answer(4_000, 9_999, 10_000, CONTENT[4_000:], etag='"new"')]
)
async def test_an_object_overwritten_while_its_first_range_breaks_has_changed(
    server: FaultyS3, store: ObjectStore, then: Fault
) -> None:
    """The rest of another version is refused by the storage, and by us."""
    server.faults.extend([cut(4_000), then])

    with pytest.raises(ObjectChangedError, match="s3://bucket/folder/key"):
        await read_first(store)

    assert server.requests[1].headers["If-Match"] == ETAG


@pytest.mark.parametrize(("status", "asked"), [(416, ["0-19999", "HEAD"]), (200, ["0-19999"])])
async def test_an_empty_object_is_pinned_without_a_byte(
    server: FaultyS3, store: ObjectStore, status: int, asked: list[str]
) -> None:
    """It has no first byte that a range could ask for."""
    server.faults.extend([empty_object(status)] * 2)

    pinned, _ = await read_first(store)

    assert pinned == [ObjectVersion(ADDRESS, ETAG, 0)]
    assert server.asked == asked


async def test_an_object_that_is_no_longer_empty_is_read_as_it_is_then(
    server: FaultyS3, store: ObjectStore
) -> None:
    """It was overwritten between the range and the pin."""
    server.faults.append(empty_object(416))

    pinned, content = await read_first(store)

    assert pinned == [VERSION]
    assert content[:10_000] == CONTENT
    assert server.asked == ["0-19999", "HEAD", "0-9999"]
    assert server.requests[-1].headers["If-Match"] == ETAG
