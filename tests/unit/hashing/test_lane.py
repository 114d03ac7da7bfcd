"""What a lane does with its orders, without its process."""

import socket
import threading
from collections.abc import Iterator

import pytest

from worker.hashing import wire
from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.contexts import is_shareable
from worker.hashing.lane import Lane, serve
from worker.hashing.memory import SharedMemory
from worker.hashing.reference import hash_bytes


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Two cells, and two slots with `hello ` and `world!`."""
    memory = SharedMemory.create(cell_count=2, slot_count=2, slot_bytes=6)
    memory.slot(0)[:] = b"hello "
    memory.slot(1)[:] = b"world!"
    yield memory
    memory.close()


def _order(
    *refs: wire.HasherRef, pieces: tuple[tuple[int, int], ...], start: bool, end: bool, turn: int = 0
) -> wire.Order:
    return wire.Order(refs, pieces, start, end, turn)


_MD5 = wire.HasherRef("md5", 1, 0)
_BLAKE3 = wire.HasherRef("blake3", 2, None)
_BOTH = ((0, 6), (1, 5))


def test_one_order_hashes_a_whole_object_with_all_algorithms(memory: SharedMemory) -> None:
    """The digests come back in the order of the hashers, and nothing is kept."""
    lane = Lane(memory)

    answer = lane.perform(_order(_BLAKE3, _MD5, pieces=_BOTH, start=True, end=True))

    expected = hash_bytes(b"hello world", ["blake3", "md5"])
    assert answer == wire.Answer(expected["blake3"] + expected["md5"])
    assert repr(lane) == "<Lane 0 hashers of its own>"


def test_an_object_may_come_in_several_orders(memory: SharedMemory) -> None:
    """A state waits in its cell, or in the lane, for the next piece."""
    lane = Lane(memory)

    for ref in (_MD5, _BLAKE3):
        assert lane.perform(_order(ref, pieces=((0, 6),), start=True, end=False)) == wire.Answer(b"")
        second = lane.perform(_order(ref, pieces=((1, 5),), start=False, end=False, turn=1))
        assert second == wire.Answer(b"")
        answer = lane.perform(_order(ref, pieces=(), start=False, end=True, turn=2))

        assert answer == wire.Answer(hash_bytes(b"hello world", [ref.algorithm])[ref.algorithm])
    assert repr(lane) == "<Lane 0 hashers of its own>"


def test_two_lanes_share_a_context(memory: SharedMemory) -> None:
    """A lane has no state of its own where the algorithm allows it."""
    Lane(memory).perform(_order(_MD5, pieces=((0, 6),), start=True, end=False))

    answer = Lane(memory).perform(_order(_MD5, pieces=((1, 5),), start=False, end=True, turn=1))

    assert answer.digests == hash_bytes(b"hello world", ["md5"])["md5"]


@pytest.mark.parametrize("name", [name for name, row in ALGORITHMS.items() if is_shareable(row)])
def test_the_states_before_two_works_outlive_both(memory: SharedMemory, name: str) -> None:
    """A lane that dies with two works in hand leaves what another needs to do them again."""
    ref = wire.HasherRef(name, 1, 0)
    first = _order(ref, pieces=((0, 6),), start=True, end=False)
    second = _order(ref, pieces=((1, 3),), start=False, end=False, turn=1)
    third = _order(ref, pieces=((0, 2), (1, 5)), start=False, end=True, turn=2)
    for order in (first, second, third, second, third, third):
        answer = Lane(memory).perform(order)

    assert answer.digests == hash_bytes(b"hello wor" + b"he" + b"world", [name])[name]


def test_no_piece_gives_the_digest_of_the_empty_input(memory: SharedMemory) -> None:
    """An empty object is one order without pieces."""
    answer = Lane(memory).perform(_order(_MD5, pieces=(), start=True, end=True))

    assert answer.digests == hash_bytes(b"", ["md5"])["md5"]


def test_whatever_a_hasher_raises_is_the_answer(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library's error costs one session: the lane forgets its hashers and goes on."""

    class Broken:
        def update(self, data: memoryview) -> None:
            raise OverflowError("too many bytes")

        def digest(self) -> bytes:
            return b""

    rows = {**ALGORITHMS, "blake3": ALGORITHMS["blake3"]._replace(new=Broken)}
    monkeypatch.setattr("worker.hashing.lane.ALGORITHMS", rows)
    lane = Lane(memory)

    failed = lane.perform(_order(_BLAKE3, pieces=_BOTH, start=True, end=False))
    next_one = lane.perform(_order(_MD5, pieces=_BOTH, start=True, end=True))

    assert failed.failure == wire.Failure("blake3", "OverflowError: too many bytes")
    assert repr(lane) == "<Lane 0 hashers of its own>"
    assert next_one.failure is None


def test_a_lane_says_ready_answers_every_order_and_ends_with_its_parent(memory: SharedMemory) -> None:
    """The end of the socket is the end of the lane: no orphan outlives its parent."""
    parent, child = socket.socketpair()
    with child:
        lane = threading.Thread(target=serve, args=(child, memory))
        lane.start()
        with parent:
            parent.sendall(wire.encode_order(_order(_MD5, pieces=_BOTH, start=True, end=True)) * 2)
            received = b""
            while len(received) < 3 * len(wire.READY) + 2 * 16:
                received += parent.recv(1000)
        lane.join()

    digest = hash_bytes(b"hello world", ["md5"])["md5"]
    assert list(wire.AnswerReader().feed(received)) == [
        wire.Answer(b""),
        wire.Answer(digest),
        wire.Answer(digest),
    ]
