"""A session as the scheduler sees it: streams, the pieces they wait for, and what came out.

A session has one stream per algorithm; all take the same pieces in the same order. A stream whose context
lives in a cell may go on in any lane, in one at a time; any other stays in the lane that it was given at the
start.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import HashingError
from worker.hashing.slots import Slot


@dataclass(slots=True, eq=False)
class Piece:
    """The bytes in one slot, and how many streams have yet to hash them."""

    slot: Slot
    length: int
    streams_left: int


@dataclass(slots=True, eq=False)
class Stream:
    """One algorithm's way through one session's bytes.

    Attributes:
        number: unlike every other stream's of the pool.
        cell: where its state is; None: in its lane.
        turn: which state of the cell the next work goes on from.
        lane: the one lane that may go on with it now; None: any.
        waiting: pieces that no lane was given yet.
        works_in_flight: works that a lane was given and has not answered.
        is_started: a lane was given its first work.
        is_ended: no work is to follow.
        deaths: how many lanes in a row have died over its next piece.
    """

    number: int
    algorithm: Algorithm
    cell: int | None
    lane: int | None
    turn: int = 0
    waiting: deque[Piece] = field(default_factory=deque)
    works_in_flight: int = 0
    is_started: bool = False
    is_ended: bool = False
    deaths: int = 0

    @property
    def has_state_in_lane(self) -> bool:
        """Whether its lane's death loses what was hashed so far."""
        return self.cell is None and self.is_started and not self.is_ended

    @property
    def is_over(self) -> bool:
        """Whether no lane has or will have anything to do with it."""
        return self.is_ended and not self.works_in_flight


@dataclass(slots=True, eq=False)
class SessionState:
    """One session: its streams, the dearest first, and its outcome.

    Attributes:
        fed_bytes: the length of all pieces so far.
        is_closed: no piece is to follow.
        digests: what is there already, by algorithm.
        failure: why there will be no digests.
        settled: set as soon as every digest is there, or the failure, or the session was left.
    """

    streams: tuple[Stream, ...]
    fed_bytes: int = 0
    is_closed: bool = False
    digests: dict[str, bytes] = field(default_factory=dict)
    failure: HashingError | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_untouched(self) -> bool:
        """Whether no lane has seen anything of it."""
        return not any(stream.is_started or stream.is_ended for stream in self.streams)

    @property
    def is_over(self) -> bool:
        """Whether every stream is over: its cells may be used by others."""
        return all(stream.is_over for stream in self.streams)

    @property
    def is_complete(self) -> bool:
        """Whether every digest is there."""
        return len(self.digests) == len(self.streams)

    def deliver(self, digests: Iterable[tuple[str, bytes]]) -> None:
        """Take some digests; the last one settles the session."""
        self.digests.update(digests)
        if self.is_complete:
            self.settled.set()

    def fail(self, failure: HashingError) -> None:
        """Settle the session without digests, unless it is settled already."""
        if not self.settled.is_set():
            self.failure = failure
            self.settled.set()


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What one lane is to do at one go: each piece through each stream.

    Attributes:
        start: the streams begin with it.
        end: the streams end with it and give their digests.
        turn: which states of the streams' cells it goes on from; it leaves those of the next turn.
    """

    session: SessionState
    streams: tuple[Stream, ...]
    pieces: tuple[Piece, ...]
    start: bool
    end: bool
    turn: int = 0

    @property
    def hashing_seconds(self) -> float:
        """How long it should take, by its algorithms' figures."""
        seconds_per_gb = sum(stream.algorithm.seconds_per_gb for stream in self.streams)
        return seconds_per_gb * sum(piece.length for piece in self.pieces) / 1e9
