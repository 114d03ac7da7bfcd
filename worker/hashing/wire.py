"""What the parent and a lane say to one another: orders one way, answers the other, in the same order.

An order asks for some pieces to go through some hashers. A lane answers each order once, with the digests if
the order ended the hashers, and says `READY` once before. A `recv` may cut either anywhere.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_ORDER = struct.Struct("<??BHH")  # start, end, turn, hashers, pieces
_HASHER = struct.Struct("<32sQiQI")  # algorithm, number, cell, place and length of the definition
_PIECE = struct.Struct("<II")  # slot, length
_ANSWER = struct.Struct("<?H")  # failed, length
_NO_CELL = -1
_NO_DEFINITION = (0, 0)
_LONGEST_REASON = 1000

READY = _ANSWER.pack(False, 0)  # noqa: FBT003 -- struct.pack has no keywords


class HasherRef(NamedTuple):
    """Which hasher an order means: by its cell, or where it has none by its number in the lane.

    An algorithm that was added comes with its definition's place and length in the shared memory.

    The algorithm goes by name: if the package on disk has become another version than the one in the parent's
    memory, a new lane still can't take one algorithm for another.
    """

    algorithm: str
    number: int
    cell: int | None
    definition: tuple[int, int] | None = None


class Order(NamedTuple):
    """Each of these pieces (slot index, length), in turn, through each of these hashers.

    A hasher with a cell goes on from the state of this turn, and leaves the state of the next one.
    """

    hashers: tuple[HasherRef, ...]
    pieces: tuple[tuple[int, int], ...]
    start: bool
    end: bool
    turn: int = 0


class Failure(NamedTuple):
    """Why an order failed, and the algorithm that it failed with."""

    algorithm: str
    reason: str


class Answer(NamedTuple):
    """One order done: the digests one after the other, or why it failed."""

    digests: bytes
    failure: Failure | None = None


def encode_order(order: Order) -> bytes:
    """Turn an order into bytes."""
    parts = [_ORDER.pack(order.start, order.end, order.turn, len(order.hashers), len(order.pieces))]
    parts += [
        _HASHER.pack(
            ref.algorithm.encode(),
            ref.number,
            _NO_CELL if ref.cell is None else ref.cell,
            *(ref.definition or _NO_DEFINITION),
        )
        for ref in order.hashers
    ]
    parts += [_PIECE.pack(slot, length) for slot, length in order.pieces]
    return b"".join(parts)


def read_order(stream: BinaryIO) -> Order | None:
    """Wait for the next order; None when the parent is gone, also in the middle of one."""
    head = stream.read(_ORDER.size)
    if len(head) < _ORDER.size:
        return None
    start, end, turn, hasher_count, piece_count = _ORDER.unpack(head)
    hashers_size = hasher_count * _HASHER.size
    body_size = hashers_size + piece_count * _PIECE.size
    body = stream.read(body_size)
    if len(body) < body_size:
        return None
    hashers = tuple(
        HasherRef(
            name.rstrip(b"\0").decode(),
            number,
            None if cell == _NO_CELL else cell,
            (place, length) if length else None,
        )
        for name, number, cell, place, length in _HASHER.iter_unpack(body[:hashers_size])
    )
    return Order(hashers, tuple(_PIECE.iter_unpack(body[hashers_size:])), start, end, turn)


def encode_answer(answer: Answer) -> bytes:
    """Turn an answer into bytes; a very long reason is cut."""
    if answer.failure is None:
        return _ANSWER.pack(False, len(answer.digests)) + answer.digests  # noqa: FBT003 -- as above
    algorithm, reason = answer.failure
    body = f"{algorithm}\n{reason[:_LONGEST_REASON]}".encode(errors="replace")
    return _ANSWER.pack(True, len(body)) + body  # noqa: FBT003 -- as above


class AnswerReader:
    """Cuts a lane's bytes into answers, whatever pieces they come in."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def feed(self, data: bytes) -> Iterator[Answer]:
        """Take the bytes of one `recv` and give the answers that they complete."""
        self._unread += data
        while len(self._unread) >= _ANSWER.size:
            failed, length = _ANSWER.unpack_from(self._unread)
            end = _ANSWER.size + length
            if len(self._unread) < end:
                return
            body = bytes(self._unread[_ANSWER.size : end])
            del self._unread[:end]
            yield Answer(b"", failure=_failure(body)) if failed else Answer(body)


def _failure(body: bytes) -> Failure:
    algorithm, _, reason = body.decode(errors="replace").partition("\n")
    return Failure(algorithm, reason)
