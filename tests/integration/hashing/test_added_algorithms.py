"""Algorithms that are not ours, through real lanes."""

import asyncio
import hashlib
import os
import signal
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.added_algorithms import (
    CRC32,
    add_package,
    begin_with_ours_alone,
    forget_packages,
    run_cell,
)
from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.errors import HasherFailedError
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import register_algorithm, resolve

HashObject = Callable[..., Awaitable[dict[str, bytes]]]
Pattern = Callable[[int], bytes]
Until = Callable[[Callable[[], bool]], Awaitable[None]]
AllSlotsFree = Callable[[LanePool], Awaitable[None]]

_SLOT = 4096
# A whole small object, and one that takes several works.
_SIZES = [10, 100 * _SLOT]

# A cell as people write them: with a table, a function beside the class, and a subclass.
_CELL = """
TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0xEDB88320 * (byte & 1))
    TABLE.append(byte)

def step(value, byte):
    return TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)

class Base:
    def digest(self):
        return (self.value ^ 0xFFFFFFFF).to_bytes(4, "big")

class Crc32(Base):
    digest_size = 4

    def __init__(self):
        super().__init__()
        self.value = 0xFFFFFFFF

    def update(self, data):
        for byte in data:
            self.value = step(self.value, byte)
"""


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with_ours_alone(monkeypatch)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder that modules are imported from; lanes that run already know nothing of it."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def _crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize("size", [0, 1, _SLOT - 1, _SLOT, _SLOT + 1, 8 * _SLOT + 1, 300_000])
async def test_a_class_of_a_cell_gives_right_digests_at_every_edge(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, size: int
) -> None:
    """It goes to the lanes with its code, after they have started, and works beside all others."""
    register_algorithm("crc32", run_cell(_CELL)["Crc32"])
    data = pattern(size)

    expected = hash_bytes(data, ALGORITHMS) | {"crc32": _crc32(data)}

    assert await hash_object(pool, data, [*ALGORITHMS, "crc32"]) == expected
    assert await hash_object(pool, data, [*ALGORITHMS, "crc32"], size_bytes=size) == expected


async def test_whatever_makes_hashers_may_be_registered(
    pool: LanePool, hash_object: HashObject, pattern: Pattern
) -> None:
    """A function of hashlib, a lambda, a class of an importable module."""
    data = pattern(50_000)
    register_algorithm("sha3-384", hashlib.sha3_384)
    register_algorithm("blake2b-160", lambda: hashlib.blake2b(digest_size=20))

    assert await hash_object(pool, data, ["sha3-384", "blake2b-160"]) == {
        "sha3-384": hashlib.sha3_384(data).digest(),
        "blake2b-160": hashlib.blake2b(data, digest_size=20).digest(),
    }


async def test_a_module_may_come_from_a_folder_that_was_added_after_the_lanes_had_started(
    pool: LanePool, hash_object: HashObject, modules: Path
) -> None:
    """A notebook appends to sys.path when it needs to."""
    (modules / "my_sums.py").write_text(CRC32, encoding="utf-8")
    import my_sums  # type: ignore[import-not-found]  # noqa: PLC0415 -- there is no such module before

    register_algorithm("crc32", my_sums.Crc32)

    assert await hash_object(pool, b"abc", ["crc32"]) == {"crc32": _crc32(b"abc")}


async def test_a_package_offers_an_algorithm_to_running_lanes(
    pool: LanePool, hash_object: HashObject, modules: Path
) -> None:
    """By its entry point alone."""
    add_package(modules, "offered_sums", CRC32, **{"offered-crc32": "offered_sums:Crc32"})
    forget_packages()

    assert await hash_object(pool, b"abc", ["offered-crc32"]) == {"offered-crc32": _crc32(b"abc")}


async def test_a_cell_that_is_run_again_counts_for_sessions_from_then_on(
    pool: LanePool, hash_object: HashObject
) -> None:
    """A session that is open ends as it began."""
    register_algorithm("mine", run_cell(CRC32)["Crc32"])
    async with pool.open_session(resolve(["mine"])) as session:
        register_algorithm("mine", run_cell(CRC32.replace("big", "little"))["Crc32"])
        slot = await pool.slots.acquire()
        slot.view[:3] = b"abc"
        session.feed(slot, 3)
        earlier = await session.digests()

    assert earlier == {"mine": _crc32(b"abc")}
    assert await hash_object(pool, b"abc", ["mine"]) == {"mine": _crc32(b"abc")[::-1]}


async def test_a_lane_that_replaces_a_dead_one_knows_the_added_algorithms(
    hash_object: HashObject, until: Until
) -> None:
    """Nothing of them is in the lane alone."""
    async with LanePool(lane_count=1, slot_count=8, slot_bytes=_SLOT) as pool:
        register_algorithm("crc32", run_cell(CRC32)["Crc32"])
        before = await hash_object(pool, b"abc", ["crc32"])
        dead = pool.lane_pids
        os.kill(dead[0], signal.SIGKILL)
        await until(lambda: pool.lane_pids not in {dead, ()})

        assert await hash_object(pool, b"abc", ["crc32"]) == before


_FAULTS = {
    "__init__": ("def __init__(self): trip(); self.value = 0", "RuntimeError: tripped over it."),
    "update": ("def update(self, data): trip(); self.take(data)", "RuntimeError: tripped over it."),
    "digest": ("def digest(self): trip(); return self.whole()", "RuntimeError: tripped over it."),
    "sys.exit": ("def update(self, data): in_lane() and sys.exit(7); self.take(data)", "SystemExit: 7."),
    "too short": (
        "def digest(self): return self.whole()[in_lane():]",
        "ValueError: digest() gave 3 bytes instead of 4.",
    ),
    "too long": (
        "def digest(self): return self.whole() + b'5' * in_lane()",
        "ValueError: digest() gave 5 bytes instead of 4.",
    ),
    "no bytes": (
        "def digest(self): return '1234' if in_lane() else self.whole()",
        "TypeError: digest() gave str instead of bytes.",
    ),
    "changes its bytes": (
        "def update(self, data): self.take(data); in_lane() and data.__setitem__(0, 0)",
        "TypeError: cannot modify read-only memory.",
    ),
    "keeps its bytes": (
        "def update(self, data): self.take(data); self.kept = in_lane() and pickle.PickleBuffer(data)",
        "BufferError: update() keeps its bytes, which change as soon as it has returned.",
    ),
}


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("fault", _FAULTS)
async def test_one_that_fails_in_a_lane_costs_its_own_session_only(
    pool: LanePool,
    hash_object: HashObject,
    all_slots_free: AllSlotsFree,
    pattern: Pattern,
    fault: str,
    size: int,
) -> None:
    """One sentence names it and tells why; lanes, slots and other sessions go on."""
    method, told = _FAULTS[fault]
    register_algorithm("broken", _works_only_here(method))
    pids, data = pool.lane_pids, pattern(size)

    failed, digests = await asyncio.gather(
        hash_object(pool, data, ["md5", "broken", "blake3"]), hash_object(pool, data), return_exceptions=True
    )

    assert isinstance(failed, HasherFailedError)
    assert (failed.code, failed.algorithm) == ("hasher_failed", "broken")
    assert str(failed) == f"Hashing with broken failed: {told}"
    assert digests == hash_bytes(data, ALGORITHMS)
    assert pool.lane_pids == pids
    await all_slots_free(pool)


def _works_only_here(method: str) -> Any:
    """Make a class that passes the first try in this process, and fails by one method in a lane."""
    return run_cell(f"""
import os, pickle, sys, zlib

def in_lane():
    return os.getpid() != {os.getpid()}

def trip():
    if in_lane():
        raise RuntimeError("tripped\\n  over it.")

class Broken:
    def __init__(self): self.value = 0
    def take(self, data): self.value = zlib.crc32(data, self.value)
    def whole(self): return self.value.to_bytes(4, "big")
    update, digest = take, whole
    {method}
""")["Broken"]


_OF_THE_PROCESS = {
    "hash()": """
        class OfTheProcess:
            def __init__(self): self.parts = []
            def update(self, data): self.parts.append(bytes(data))
            def digest(self): return (hash(b"".join(self.parts)) % 2**64).to_bytes(8, "big")
    """,
    "os.getpid()": """
        import os, zlib

        class OfTheProcess:
            def __init__(self): self.value = os.getpid()
            def update(self, data): self.value = zlib.crc32(data, self.value)
            def digest(self): return self.value.to_bytes(4, "big")
    """,
}


@pytest.mark.parametrize("size", [0, *_SIZES])
@pytest.mark.parametrize("source", _OF_THE_PROCESS.values(), ids=_OF_THE_PROCESS)
async def test_one_whose_digest_is_of_its_process_is_refused_by_every_lane(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, source: str, size: int
) -> None:
    """The same bytes would get another digest in the next lane; where it was added nothing shows it."""
    register_algorithm("of-the-process", run_cell(source)["OfTheProcess"])

    hashing = [hash_object(pool, pattern(size), ["of-the-process"]) for _ in range(2 * pool.lane_count)]
    refusals = await asyncio.gather(*hashing, return_exceptions=True)

    told = (
        "Hashing with of-the-process failed: ValueError: the same bytes gave another digest in the process "
        "that added it; a digest may depend on nothing of its process, such as hash() or os.getpid()."
    )
    assert set(map(str, refusals)) == {told}
    assert await hash_object(pool, b"abc") == hash_bytes(b"abc", ALGORITHMS)


async def test_a_lane_tries_an_added_algorithm_once(hash_object: HashObject) -> None:
    """Its objects pay for their own bytes alone."""
    counting = """
        import os, zlib

        PID, made = %d, []

        class Counting:
            def __init__(self): self.value = 0; made.append(os.getpid())
            def update(self, data): self.value = zlib.crc32(data, self.value)
            def digest(self):
                assert os.getpid() == PID or made.count(os.getpid()) <= 4 + 2, "a second trial"
                return self.value.to_bytes(4, "big")
    """
    register_algorithm("counting", run_cell(counting % os.getpid())["Counting"])
    async with LanePool(lane_count=1, slot_count=8, slot_bytes=_SLOT) as pool:
        digests = [await hash_object(pool, b"abc", ["counting"]) for _ in range(2)]

    assert digests == [{"counting": _crc32(b"abc")}] * 2


async def test_what_a_lane_cannot_import_is_told_with_what_to_do(
    pool: LanePool, hash_object: HashObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is in this process alone; the lane goes on."""
    module = ModuleType("nowhere_else")
    exec(CRC32, module.__dict__)  # noqa: S102 -- a module without a file
    monkeypatch.setitem(sys.modules, "nowhere_else", module)
    register_algorithm("crc32", module.Crc32)
    pids = pool.lane_pids

    with pytest.raises(HasherFailedError) as caught:
        await hash_object(pool, b"abc", ["crc32"])

    assert str(caught.value) == (
        "Hashing with crc32 failed: ImportError: a hashing lane can't load it, install its module "
        "as a package (ModuleNotFoundError: No module named 'nowhere_else')."
    )
    assert await hash_object(pool, b"abc") == hash_bytes(b"abc", ALGORITHMS)
    assert pool.lane_pids == pids


async def test_a_slow_algorithm_is_no_hung_one(hash_object: HashObject) -> None:
    """A lane may take as long as its algorithm's figure says, and more, before it counts as stuck."""
    slow = """
        import time, zlib

        class Slow:
            def __init__(self): self.value = 0
            def update(self, data):
                if len(data) == 4096: time.sleep(0.7)
                self.value = zlib.crc32(data, self.value)
            def digest(self): return self.value.to_bytes(4, "big")
    """
    register_algorithm("slow", run_cell(slow)["Slow"], seconds_per_gb=0.7 / 4096 * 1e9)
    async with LanePool(lane_count=1, slot_count=8, slot_bytes=_SLOT, answer_seconds=0.2) as pool:
        pids = pool.lane_pids

        digests = await hash_object(pool, bytes(2 * _SLOT), ["slow"])

        assert digests == {"slow": _crc32(bytes(2 * _SLOT))}
        assert pool.lane_pids == pids


async def test_one_that_tries_to_change_its_bytes_harms_no_digest_beside_it(
    pool: LanePool, hash_object: HashObject, pattern: Pattern
) -> None:
    """All algorithms read the same slot, at once."""
    meddling = """
        import zlib

        class Meddling:
            def __init__(self): self.value = 0
            def update(self, data):
                if not data.readonly: data[0] ^= 0xFF
                self.value = zlib.crc32(data, self.value)
            def digest(self): return self.value.to_bytes(4, "big")
    """
    register_algorithm("meddling", run_cell(meddling)["Meddling"])
    data = pattern(100 * _SLOT)

    digests = await hash_object(pool, data, ["meddling", *ALGORITHMS])

    assert digests == hash_bytes(data, ALGORITHMS) | {"meddling": _crc32(data)}


def _forking(what_the_child_does: str) -> Any:
    """Make a class that forks at each piece in a lane."""
    return run_cell(f"""
import os, time, zlib

class Forking:
    def __init__(self): self.value = 0
    def update(self, data):
        self.value = zlib.crc32(data, self.value)
        if os.getpid() != {os.getpid()} and os.fork() == 0:
            {what_the_child_does}
    def digest(self): return self.value.to_bytes(4, "big")
""")["Forking"]


@pytest.mark.parametrize("what_the_child_does", ["pass", "raise ValueError", "raise SystemExit"])
async def test_the_children_of_one_that_forks_answer_nothing(
    hash_object: HashObject, pattern: Pattern, what_the_child_does: str
) -> None:
    """Neither its own digests nor those after it are another work's."""
    register_algorithm("forking", _forking(what_the_child_does))
    data = pattern(20 * _SLOT)
    async with LanePool(lane_count=1, slot_count=8, slot_bytes=_SLOT) as pool:
        pids = pool.lane_pids

        beside = await hash_object(pool, data, ["forking", "md5", "blake3"])
        after = [await hash_object(pool, pattern(size), ["md5", "sha512"]) for size in range(5)]

        assert beside == hash_bytes(data, ["md5", "blake3"]) | {"forking": _crc32(data)}
        assert after == [hash_bytes(pattern(size), ["md5", "sha512"]) for size in range(5)]
        assert pool.lane_pids == pids


async def test_a_child_that_lives_on_does_not_hide_its_lanes_death(
    hash_object: HashObject, until: Until, tmp_path: Path
) -> None:
    """The lane is replaced although its child has all of its descriptors but the socket."""
    children = tmp_path / "children"
    told = f"print(os.getpid(), file=open({str(children)!r}, 'a'), flush=True); time.sleep(600)"
    register_algorithm("forking", _forking(told))
    async with LanePool(lane_count=1, slot_count=8, slot_bytes=_SLOT) as pool:
        dead = pool.lane_pids
        await hash_object(pool, b"abc", ["forking"])
        await until(lambda: children.exists() and children.read_text(encoding="utf-8").count("\n") == 6)
        os.kill(dead[0], signal.SIGKILL)

        try:
            await until(lambda: pool.lane_pids not in {dead, ()})
            assert await hash_object(pool, b"abc", ["md5"]) == hash_bytes(b"abc", ["md5"])
        finally:
            for child in children.read_text(encoding="utf-8").split():
                os.kill(int(child), signal.SIGKILL)
