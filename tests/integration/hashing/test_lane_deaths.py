"""Lanes that are killed or freeze in the middle of objects."""

import asyncio
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest

from worker.hashing import wire
from worker.hashing.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS
from worker.hashing.contexts import is_shareable
from worker.hashing.errors import LaneDiedError
from worker.hashing.lane_process import LaneProcess
from worker.hashing.lanes import LanePool
from worker.hashing.reference import hash_bytes
from worker.hashing.registry import resolve
from worker.hashing.scheduler import DEATHS
from worker.hashing.session import Session
from worker.hashing.streams import Work

HashObject = Callable[..., Awaitable[dict[str, bytes]]]
AllSlotsFree = Callable[[LanePool], Awaitable[None]]
Pattern = Callable[[int], bytes]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

_SHAREABLE = [name for name, row in ALGORITHMS.items() if is_shareable(row)]
_SLOT = 4096


async def _feed(pool: LanePool, session: Session, data: bytes) -> None:
    for start in range(0, len(data), _SLOT):
        piece = data[start : start + _SLOT]
        slot = await pool.slots.acquire()
        slot.view[: len(piece)] = piece
        session.feed(slot, len(piece))


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("names", [["md5", "sha1", "sha256"], _SHAREABLE])
async def test_a_lane_killed_in_mid_object_costs_neither_a_byte_nor_a_digest(
    pool: LanePool, pattern: Pattern, all_slots_free: AllSlotsFree, names: list[str]
) -> None:
    """What the dead lane had in hand is done by another, from the states before; every byte is fed once."""
    data = pattern(40 * _SLOT + 5)
    before = pool.lane_pids
    async with pool.open_session(resolve(names), len(data)) as session:
        await _feed(pool, session, data[: 10 * _SLOT])
        await all_slots_free(pool)  # an answer that is still to come would leave the lane with less in hand
        os.kill(before[0], signal.SIGSTOP)
        await _feed(pool, session, data[10 * _SLOT : 12 * _SLOT])
        assert len(pool._lanes[0].works) == 2
        _kill(before[:1])
        await _feed(pool, session, data[12 * _SLOT :])
        digests = await session.digests()

    assert digests == hash_bytes(data, names)
    assert pool.lane_pids[0] != before[0]
    assert pool.lane_pids[1] == before[1]


async def test_small_objects_outlive_their_lane_with_any_algorithm(
    pool: LanePool, all_slots_free: AllSlotsFree, hash_object: HashObject, pattern: Pattern, until: Until
) -> None:
    """A work that is a whole object leaves no state in a lane, so it can be done again."""
    objects = [pattern(size) for size in (0, 1, 4096, 9000)]
    before = pool.lane_pids
    for pid in before:
        os.kill(pid, signal.SIGSTOP)

    digests = asyncio.gather(*(hash_object(pool, data, ALGORITHMS, size_bytes=len(data)) for data in objects))
    await until(lambda: all(len(lane.works) == 2 for lane in pool._lanes.values()))
    _kill(before)

    assert await digests == [hash_bytes(data, ALGORITHMS) for data in objects]
    await all_slots_free(pool)


async def test_an_answer_that_was_on_its_way_when_its_lane_died_is_right(pattern: Pattern) -> None:
    """Whether it counts or the work is done again: the bytes go into the digest once."""
    data = pattern(2 * _SLOT)
    names = ["md5", "crc32c"]
    async with LanePool(lane_count=1, slot_count=2, slot_bytes=_SLOT) as pool:
        lane = pool._lanes[0]
        async with pool.open_session(resolve(names)) as session:
            await _feed(pool, session, data)
            select.select([lane.socket], [], [], 30)  # not the loop, so the pool has not seen the answer
            _kill([lane.pid])
            digests = await session.digests()

    assert digests == hash_bytes(data, names)


@pytest.mark.parametrize("name", _SHAREABLE)
async def test_what_a_lane_did_and_could_not_answer_any_more_is_done_again(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It has hashed both pieces, but nobody knows: they must not go into the digest twice."""
    data = pattern(4 * _SLOT)

    def lose_answers() -> list[wire.Answer]:
        raise EOFError

    async with LanePool(lane_count=1, slot_count=2, slot_bytes=_SLOT) as pool:
        lane = pool._lanes[0]
        async with pool.open_session(resolve([name])) as session:
            await _feed(pool, session, data[:_SLOT])
            slots = [await pool.slots.acquire() for _ in range(2)]
            monkeypatch.setattr(lane, "receive", lose_answers)
            for number, slot in enumerate(slots, start=1):
                slot.view[:] = data[number * _SLOT : (number + 1) * _SLOT]
                session.feed(slot, _SLOT)
            answered = b""
            while len(answered) < 2 * len(wire.READY):  # not in the loop, so the pool has not seen them
                select.select([lane.socket], [], [])
                answered = lane.socket.recv(1000, socket.MSG_PEEK)
            await _feed(pool, session, data[3 * _SLOT :])
            digests = await session.digests()

    assert lane.pid not in pool.lane_pids
    assert digests == hash_bytes(data, [name])


async def test_states_in_shared_memory_outlive_all_lanes_at_once(
    pool: LanePool, all_slots_free: AllSlotsFree, pattern: Pattern, until: Until
) -> None:
    """The lanes may be idle, too, when they die."""
    data = pattern(2 * _SLOT)
    before = pool.lane_pids
    async with pool.open_session(resolve(_SHAREABLE)) as session:
        await _feed(pool, session, data[:_SLOT])
        await all_slots_free(pool)
        _kill(before)
        await until(lambda: not set(before) & set(pool.lane_pids))
        await _feed(pool, session, data[_SLOT:])
        digests = await session.digests()

    assert digests == hash_bytes(data, _SHAREABLE)


async def test_a_state_that_lived_in_the_dead_lane_fails_its_session_and_the_pool_goes_on(
    pool: LanePool, all_slots_free: AllSlotsFree, hash_object: HashObject, pattern: Pattern
) -> None:
    """BLAKE3's state is gone with its lane: an error, never a digest of the rest."""
    data = pattern(100_000)
    before = pool.lane_pids
    async with pool.open_session(resolve(DEFAULT_ALGORITHMS)) as session:
        await _feed(pool, session, data[:_SLOT])
        await all_slots_free(pool)
        _kill(before)

        with pytest.raises(LaneDiedError, match="killed by signal 9") as caught:
            await session.digests()

    assert (caught.value.code, caught.value.exit_status) == ("lane_died", -9)
    assert caught.value.pid in before
    await all_slots_free(pool)
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)


async def test_reading_on_after_a_state_was_lost_fails_at_the_next_piece(
    pool: LanePool, all_slots_free: AllSlotsFree, until: Until
) -> None:
    """A reader does not read a terabyte for a session that has failed already."""
    before = pool.lane_pids
    async with pool.open_session(resolve(["blake3"])) as session:
        session.feed(await pool.slots.acquire(), _SLOT)
        await all_slots_free(pool)
        _kill(before)
        await until(lambda: not set(before) & set(pool.lane_pids))
        slot = await pool.slots.acquire()

        with pytest.raises(LaneDiedError):
            session.feed(slot, _SLOT)


async def test_a_state_that_had_not_begun_or_is_in_another_lane_is_not_lost(
    pool: LanePool, all_slots_free: AllSlotsFree, pattern: Pattern, until: Until
) -> None:
    """One BLAKE3 waits for its first byte in the lane that dies, the other one is in another lane."""
    data = pattern(2 * _SLOT)
    before = pool.lane_pids
    async with (
        pool.open_session(resolve(["blake3"])) as elsewhere,
        pool.open_session(resolve(["blake3", "sha256"])) as not_begun,
    ):
        await _feed(pool, elsewhere, data[:_SLOT])
        await all_slots_free(pool)
        os.kill(before[1], signal.SIGSTOP)
        await _feed(pool, not_begun, data)
        await until(lambda: bool(pool._lanes[1].works))
        _kill(before[1:])
        await _feed(pool, elsewhere, data[_SLOT:])
        digests = [await elsewhere.digests(), await not_begun.digests()]

    assert digests == [hash_bytes(data, ["blake3"]), hash_bytes(data, ["blake3", "sha256"])]


async def test_a_piece_that_kills_every_lane_fails_its_session_and_no_other(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three lanes it is the piece's fault; the pool does not kill its lanes for ever."""
    send = LaneProcess.send
    killed = []

    def send_poison(lane: LaneProcess, work: Work) -> None:
        os.kill(lane.pid, signal.SIGKILL)
        killed.append(lane.pid)
        send(lane, work)

    with monkeypatch.context() as patch:
        patch.setattr(LaneProcess, "send", send_poison)
        with pytest.raises(LaneDiedError):
            await hash_object(pool, b"poison", ["md5"], size_bytes=6)

    assert len(set(killed)) == len(killed) == DEATHS
    data = pattern(100_000)
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)


async def test_a_frozen_lane_is_found_and_replaced(
    hash_object: HashObject, pattern: Pattern, until: Until
) -> None:
    """A stopped process answers nothing and does not end: its work goes to another lane all the same."""
    data = pattern(100_000)
    async with LanePool(lane_count=2, slot_count=8, slot_bytes=_SLOT, answer_seconds=0.5) as pool:
        before = pool.lane_pids
        os.kill(before[0], signal.SIGSTOP)

        assert await hash_object(pool, data, _SHAREABLE) == hash_bytes(data, _SHAREABLE)
        await until(lambda: len({*pool.lane_pids, *before}) == 3)
        assert pool.lane_pids[1] == before[1]


async def test_a_lane_without_work_may_be_silent_for_ever(pool: LanePool) -> None:
    """The watchdog comes by often and finds nobody who owes an answer."""
    before = [lane._process for lane in pool._lanes.values()]
    for _ in range(100):
        pool._watch()

    assert [process.poll() for process in before] == [None, None]


async def test_a_lane_that_answers_unasked_is_replaced(
    pool: LanePool, hash_object: HashObject, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its later answers would be taken for those of other works."""
    lane, data = pool._lanes[0], pattern(100_000)
    monkeypatch.setattr(lane, "receive", lambda: [wire.Answer(b"unasked"), wire.Answer(b"again")])

    pool._receive(lane)

    assert lane.pid not in pool.lane_pids
    assert await hash_object(pool, data) == hash_bytes(data, ALGORITHMS)
