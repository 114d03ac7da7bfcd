from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.hashing.errors import LaneDiedError
from worker.hashing.slots import Slot, SlotRing
from worker.jobs.object_digests import hash_object
from worker.storage.errors import ObjectChangedError
from worker.storage.object_version import ObjectAddress, ObjectVersion

if TYPE_CHECKING:
    from worker.hashing.lanes import LanePool
    from worker.storage.store import ObjectStore

SLOT_BYTES = 8
ADDRESS = ObjectAddress("b", "k")


class Store:
    """An object in memory, overwritten after so many requests."""

    def __init__(self, overwritten_after: int | None = None) -> None:
        self.pins = 0
        self.requests = 0
        self._overwritten_after = overwritten_after

    @property
    def version(self) -> ObjectVersion:
        """What there is now."""
        is_new = self._overwritten_after is not None and self.requests > self._overwritten_after
        return ObjectVersion(ADDRESS, '"new"' if is_new else '"old"', 3 * SLOT_BYTES)

    async def read_first(
        self, address: ObjectAddress, destination: memoryview, on_pinned: Callable[[ObjectVersion], None]
    ) -> None:
        """Pin what there is now."""
        self.pins += 1
        self.requests += 1
        on_pinned(self.version)

    async def read_range(self, version: ObjectVersion, start: int, destination: memoryview) -> None:
        """Read, if it is there still."""
        self.requests += 1
        if version != self.version:
            raise ObjectChangedError(str(version.address))


class Lanes:
    """Lanes that die under their first sessions, when these have got everything."""

    def __init__(self, deaths: int) -> None:
        self.slots = SlotRing(4, SLOT_BYTES)
        self.sizes: list[int] = []
        self._deaths = deaths

    @asynccontextmanager
    async def open_session(self, algorithms: Any, size_bytes: int) -> AsyncIterator["Lanes"]:
        """Open a session."""
        self.sizes.append(size_bytes)
        yield self

    def feed(self, slot: Slot, length: int) -> None:
        """Take a piece."""
        self.slots.release(slot)

    async def digests(self) -> dict[str, bytes]:
        """Give digests, or die."""
        if len(self.sizes) <= self._deaths:
            raise LaneDiedError(1, -9)
        return {"md5": b"digest"}


async def hashed(store: Store, lanes: Lanes) -> tuple[ObjectVersion, dict[str, bytes]]:
    """Hash the object."""
    result = await hash_object(
        cast("ObjectStore", store), ADDRESS, cast("LanePool", lanes), (), ranges_in_flight=2
    )
    return result.version, result.by_name


async def test_the_digests_come_with_the_version_they_belong_to() -> None:
    """The session knows the size from the start, and no slot is left."""
    store, lanes = Store(), Lanes(deaths=0)

    assert await hashed(store, lanes) == (store.version, {"md5": b"digest"})
    assert lanes.sizes == [3 * SLOT_BYTES]
    assert lanes.slots.held_count == 0


async def test_a_death_makes_the_pinned_version_be_read_again() -> None:
    """It is not pinned anew: that might be another object."""
    store, lanes = Store(), Lanes(deaths=2)

    assert await hashed(store, lanes) == (store.version, {"md5": b"digest"})
    assert store.pins == 1
    assert store.requests == 3 * 3
    assert lanes.slots.held_count == 0


async def test_an_object_overwritten_before_it_is_read_again_has_changed() -> None:
    """The error says so; there is no digest of the new one."""
    store, lanes = Store(overwritten_after=3), Lanes(deaths=1)

    with pytest.raises(ObjectChangedError):
        await hashed(store, lanes)

    assert lanes.slots.held_count == 0


async def test_the_third_death_is_given_up() -> None:
    """The object itself may be the cause."""
    store, lanes = Store(), Lanes(deaths=3)

    with pytest.raises(LaneDiedError):
        await hashed(store, lanes)

    assert len(lanes.sizes) == 3
    assert lanes.slots.held_count == 0
