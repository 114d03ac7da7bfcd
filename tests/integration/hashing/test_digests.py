"""Right digests at every edge, through real lanes."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hashing.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes, hash_pieces
from worker.hashing.registry import resolve
from worker.hashing.scheduler import WHOLE_BYTES

HashObject = Callable[..., Awaitable[dict[str, bytes]]]
Pattern = Callable[[int], bytes]

_SLOT = 4096
_RING = 8 * _SLOT
_EDGES = [
    0,
    1,
    _SLOT - 1,
    _SLOT,
    _SLOT + 1,
    2 * _SLOT,
    2 * _SLOT + 1,
    _RING - 1,
    _RING,
    _RING + 1,
    3 * _RING + 7,
]


@pytest.mark.parametrize("size", _EDGES)
async def test_every_length_around_the_edges_gives_the_right_digests(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, size: int
) -> None:
    """All algorithms agree with the plain reference, whether the size was announced or not."""
    data = pattern(size)

    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)
    assert await hash_object(pool, data, size_bytes=size) == hash_bytes(data, ALGORITHMS)


@pytest.mark.parametrize("size", [WHOLE_BYTES - 1, WHOLE_BYTES, WHOLE_BYTES + 1])
async def test_the_edge_between_small_and_large_objects_shows_in_no_digest(
    hash_object: HashObject, pattern: Pattern, size: int
) -> None:
    """One lane or all of them: the digests are the same."""
    data = pattern(size)

    async with LanePool(lane_count=2, slot_count=2, slot_bytes=2 * WHOLE_BYTES) as pool:
        assert await hash_object(pool, data, size_bytes=size) == hash_bytes(data, ALGORITHMS)


async def test_pieces_of_any_length_are_hashed_in_the_order_fed(pool: LanePool, pattern: Pattern) -> None:
    """A slot need not be full."""
    pieces = [pattern(size) for size in (1, 4096, 17, 4095, 251, 2)]

    async with pool.open_session(resolve(ALGORITHMS)) as session:
        for piece in pieces:
            slot = await pool.slots.acquire()
            slot.view[: len(piece)] = piece
            session.feed(slot, len(piece))
        digests = await session.digests()

    assert digests == hash_pieces(pieces, ALGORITHMS)


async def test_digests_come_in_the_order_asked_for(pool: LanePool, hash_object: HashObject) -> None:
    """Not in the order in which the lanes are done with them."""
    names = ["blake3", "md5", "crc32c", "sha256"]

    assert list(await hash_object(pool, b"abc", names)) == names


async def test_many_sessions_at_once_do_not_mix(
    pool: LanePool, hash_object: HashObject, pattern: Pattern
) -> None:
    """Forty objects of forty lengths share two lanes and eight slots."""
    objects = [pattern(size * 997) for size in range(40)]

    found = await asyncio.gather(*(hash_object(pool, data, DEFAULT_ALGORITHMS) for data in objects))

    assert found == [hash_bytes(data, DEFAULT_ALGORITHMS) for data in objects]
    assert repr(pool) == "<LanePool 2 lanes, 0 sessions, <SlotRing 8 free, 0 held>>"


@pytest.mark.parametrize("size", _EDGES)
async def test_without_contexts_in_shared_memory_the_digests_are_the_same(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Where OpenSSL's entry points are missing, every algorithm stays in one lane with hashlib."""
    monkeypatch.setattr("worker.hashing.scheduler.is_shareable", lambda _: False)
    data = pattern(size)

    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)


async def test_more_sessions_than_cells_are_hashed_as_well(
    hash_object: HashObject, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that finds no cell keeps its state in a lane."""
    monkeypatch.setattr("worker.hashing.lanes._CELLS", 5)
    objects = [pattern(size * 4099) for size in range(1, 7)]

    async with LanePool(lane_count=2, slot_count=8, slot_bytes=4096) as pool:
        found = await asyncio.gather(*(hash_object(pool, data) for data in objects))

    assert found == [hash_bytes(data, ALGORITHMS) for data in objects]


@settings(max_examples=25)
@given(
    data=st.data(),
    lane_count=st.integers(1, 3),
    slot_count=st.integers(1, 6),
    slot_bytes=st.integers(1, 5000),
)
def test_random_objects_over_random_lanes_and_slots_give_the_right_digests(
    data: st.DataObject, lane_count: int, slot_count: int, slot_bytes: int
) -> None:
    """Random pieces and algorithms, sizes announced or not, and turns of the loop between the pieces."""
    pieces = st.lists(st.integers(1, slot_bytes), max_size=10)
    names = st.lists(st.sampled_from(sorted(ALGORITHMS)), min_size=1, max_size=6, unique=True)
    turns = st.integers(0, 3)
    objects = data.draw(st.lists(st.tuples(pieces, names, st.booleans(), turns), min_size=1, max_size=6))

    async def hash_one(
        pool: LanePool, lengths: list[int], some: list[str], *, is_known: bool, turns: int
    ) -> None:
        content = [bytes((start + index) % 251 for index in range(n)) for start, n in enumerate(lengths)]
        async with pool.open_session(resolve(some), sum(lengths) if is_known else None) as session:
            for piece in content:
                slot = await pool.slots.acquire()
                slot.view[: len(piece)] = piece
                session.feed(slot, len(piece))
                for _ in range(turns):
                    await asyncio.sleep(0)
            assert await session.digests() == hash_pieces(content, some)

    async def hash_all() -> None:
        async with LanePool(lane_count, slot_count, slot_bytes) as pool:
            async with asyncio.TaskGroup() as group:
                for lengths, some, is_known, turns in objects:
                    group.create_task(hash_one(pool, lengths, some, is_known=is_known, turns=turns))
            assert pool.slots.free_count == slot_count

    asyncio.run(hash_all())


_TOOLS = {
    "md5sum": "md5",
    "sha1sum": "sha1",
    "sha224sum": "sha224",
    "sha256sum": "sha256",
    "sha384sum": "sha384",
    "sha512sum": "sha512",
    "b2sum": "blake2b",
}


@pytest.mark.parametrize("tool", _TOOLS)
async def test_the_systems_own_tools_agree(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, tmp_path: Path, *, tool: str
) -> None:
    """Whoever checks an archive by hand gets the same digest."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    file = tmp_path / "object"
    file.write_bytes(pattern(100_001))

    process = await asyncio.create_subprocess_exec(tool, file, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()

    name = _TOOLS[tool]
    digests = await hash_object(pool, file.read_bytes(), [name])
    assert digests[name].hex() == printed.split()[0].decode()
