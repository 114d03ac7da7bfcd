"""The reader and the store together against a real S3 server over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from worker.storage.errors import ObjectChangedError
from worker.storage.object_version import ObjectAddress
from worker.storage.reader import read_object

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from worker.storage.store import ObjectStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

RANGE_BYTES = 1000
RING_SLOTS = 3


@dataclass(frozen=True, eq=False)
class Slot:
    """One range's buffer."""

    view: memoryview


class Ring:
    """The smallest ring of slots."""

    def __init__(self) -> None:
        self.free: asyncio.Queue[Slot] = asyncio.Queue()
        for _ in range(RING_SLOTS):
            self.free.put_nowait(Slot(memoryview(bytearray(RANGE_BYTES))))

    async def acquire(self) -> Slot:
        """Wait for a free slot."""
        return await self.free.get()

    def release(self, slot: Slot) -> None:
        """Take a slot back."""
        self.free.put_nowait(slot)


@pytest.mark.parametrize(
    "size_bytes",
    [
        0,
        1,
        RANGE_BYTES - 1,
        RANGE_BYTES,
        RANGE_BYTES + 1,
        2 * RANGE_BYTES + 7,
        RING_SLOTS * RANGE_BYTES,
        RING_SLOTS * RANGE_BYTES + 1,
    ],
)
async def test_an_object_of_every_edge_is_read_as_it_is(
    store: ObjectStore, s3: S3Client, bucket: str, size_bytes: int
) -> None:
    """Nothing, one byte, around a range, the whole ring and one more."""
    content = bytes(byte % 251 for byte in range(size_bytes))
    await s3.put_object(Bucket=bucket, Key="k", Body=content)
    ring = Ring()
    digest = hashlib.sha256()

    async with read_object(store, ObjectAddress(bucket, "k"), ring, ranges_in_flight=2) as ranges:
        async for slot, length in ranges:
            digest.update(slot.view[:length])
            ring.release(slot)

    assert digest.digest() == hashlib.sha256(content).digest()
    assert ring.free.qsize() == RING_SLOTS


async def test_an_object_overwritten_between_two_ranges_is_an_error_never_a_digest(
    store: ObjectStore, s3: S3Client, bucket: str
) -> None:
    """What was read before belongs to a version that is no more."""
    await s3.put_object(Bucket=bucket, Key="k", Body=b"a" * 5 * RANGE_BYTES)
    ring = Ring()

    async with read_object(store, ObjectAddress(bucket, "k"), ring, ranges_in_flight=1) as ranges:
        slot, _ = await anext(ranges)
        await s3.put_object(Bucket=bucket, Key="k", Body=b"b" * 5 * RANGE_BYTES)
        ring.release(slot)
        with pytest.raises(ObjectChangedError):  # noqa: PT012 - some ranges may still come before the error
            async for later, _ in ranges:
                ring.release(later)

    assert ring.free.qsize() == RING_SLOTS
