"""Which lane does what next: plain decisions without I/O.

Sessions take turns, so that a small object never waits for the end of a large one. In its turn a session
gives its dearest stream that has something to do: an object can't pass its slowest algorithm, so that one
must never wait. A busy stream goes on in the same lane, which keeps its order; an idle one goes on in any.

When a lane dies, what it has not answered is taken back and done again by another, from the states before.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

from worker.hashing.algorithms import Algorithm
from worker.hashing.contexts import is_shareable
from worker.hashing.memory import STATES_PER_CELL
from worker.hashing.slots import Slot
from worker.hashing.streams import Piece, SessionState, Stream, Work

# One work is at most so many seconds of hashing (or one piece): so long that handing it out costs little
# beside it, so short that the next session's turn comes soon.
WORK_SECONDS = 0.016
# The slots of a work come back when it is done, so a cheap algorithm must not take the whole ring at once.
WORK_PIECES = 8
# After so many lanes in a row that die over the same piece that piece is to blame.
DEATHS = 3
# An object up to this size is one work for one lane, with all its algorithms.
WHOLE_BYTES = 256 * 1024


class Scheduler:
    """The sessions of a pool and what each lane owes them.

    Args:
        lane_count: how many lanes there are.
        cell_count: how many streams may have their state in shared memory. Those that find no free cell
            stay in one lane.

    Attributes:
        open_lanes: the lanes that a new stream may be bound to.
    """

    def __init__(self, lane_count: int, cell_count: int) -> None:
        self._free_cells = list(range(cell_count))
        self._numbers = count()
        self._turns: deque[SessionState] = deque()
        self.open_lanes = set(range(lane_count))
        # By lane, the sum over the streams that can't leave it.
        self._bound_seconds_per_gb = [0.0] * lane_count

    @property
    def sessions(self) -> tuple[SessionState, ...]:
        """Every session that is not over yet."""
        return tuple(self._turns)

    def open(self, algorithms: Sequence[Algorithm]) -> SessionState:
        """Begin a session."""
        dearest_first = sorted(algorithms, key=lambda algorithm: -algorithm.seconds_per_gb)
        session = SessionState(tuple(self._new_stream(algorithm) for algorithm in dearest_first))
        self._turns.append(session)
        return session

    def feed(self, session: SessionState, slot: Slot, length: int) -> None:
        """Queue the first `length` bytes of a slot for every stream of a session."""
        piece = Piece(slot, length, streams_left=len(session.streams))
        session.fed_bytes += length
        for stream in session.streams:
            stream.waiting.append(piece)

    def choose(self, lane: int) -> Work | None:
        """Take the next work for a lane; None if there is nothing that this lane may do."""
        for _ in range(len(self._turns)):
            session = self._turns[0]
            self._turns.rotate(-1)
            if work := _next_work(session, lane):
                _hand_out(work, lane)
                return work
        return None

    def settle(self, work: Work) -> list[Slot]:
        """Note that a lane has done a work, and give the slots that nobody reads any more."""
        for stream in work.streams:
            stream.works_in_flight -= 1
            stream.deaths = 0
            if stream.cell is not None and not stream.works_in_flight:
                stream.lane = None
        self._retire(work.session)
        return _read_once(work.pieces for _ in work.streams)

    def abandon(self, session: SessionState) -> list[Slot]:
        """Hand out no more of a session, and give the slots that no lane reads. Twice is fine.

        What lanes have in hand is theirs until `settle`. A hasher that lives in a lane is ended like any
        other, and nobody looks at its digest.
        """
        session.is_closed = True
        slots = _read_once(stream.waiting for stream in session.streams)
        for stream in session.streams:
            stream.waiting.clear()
            stream.is_ended = not stream.has_state_in_lane
        session.settled.set()
        self._retire(session)
        return slots

    def lose(self, lane: int, works: Sequence[Work]) -> list[SessionState]:
        """Note that a lane is dead, and give the sessions that can't go on.

        These are the sessions with a state that was in this lane alone, and the one whose piece has now
        killed `DEATHS` lanes in a row. They must be abandoned before the works are taken back.

        Args:
            lane: which one.
            works: what it had in hand, in order; `take_back` each of them as well.
        """
        first_work: dict[Stream, Work] = {}
        for work in works:
            for stream in work.streams:
                first_work.setdefault(stream, work)
        lost = [work.session for stream, work in first_work.items() if stream.cell is None and not work.start]
        for session in self._turns:
            for stream in session.streams:
                if stream.lane == lane and stream.has_state_in_lane and stream not in first_work:
                    stream.is_ended = True
                    lost.append(session)
        # A lane does one work after the other: it died over the first, or before it had looked at any.
        for stream in works[0].streams if works else ():
            stream.deaths += 1
            if stream.deaths >= DEATHS:
                lost.append(works[0].session)
        return list(dict.fromkeys(lost))

    def take_back(self, work: Work) -> list[Slot]:
        """Undo a work that a dead lane had in hand, so that another lane does it; of several the last first.

        If nobody waits for the session's digests any more the work is done with instead.

        Returns:
            The slots that nobody reads any more.
        """
        if work.session.settled.is_set():
            for stream in work.streams:
                stream.is_ended = True  # what it had in the lane is gone with it
            return self.settle(work)
        for stream in work.streams:
            stream.waiting.extendleft(reversed(work.pieces))
            stream.works_in_flight -= 1
            stream.turn = work.turn
            stream.is_started = not work.start
            stream.is_ended = False
            if stream.cell is not None:
                stream.lane = None
        return []

    def close_lane(self, lane: int) -> None:
        """Bind no stream to a lane that is missing for now; those that wait for it go to others."""
        self.open_lanes.discard(lane)
        if not self.open_lanes:
            return
        for session in self._turns:
            for stream in session.streams:
                if stream.lane == lane and not stream.is_started:
                    self._bound_seconds_per_gb[lane] -= stream.algorithm.seconds_per_gb
                    stream.lane = self._bind(stream.algorithm)

    def _new_stream(self, algorithm: Algorithm) -> Stream:
        if self._free_cells and is_shareable(algorithm):
            return Stream(next(self._numbers), algorithm, cell=self._free_cells.pop(), lane=None)
        return Stream(next(self._numbers), algorithm, cell=None, lane=self._bind(algorithm))

    def _bind(self, algorithm: Algorithm) -> int:
        """Choose the lane that has the least to do for streams that can't leave it."""
        lane = min(sorted(self.open_lanes), key=self._bound_seconds_per_gb.__getitem__)
        self._bound_seconds_per_gb[lane] += algorithm.seconds_per_gb
        return lane

    def _retire(self, session: SessionState) -> None:
        if not session.is_over or session not in self._turns:
            return
        self._turns.remove(session)
        for stream in session.streams:
            if stream.cell is not None:
                self._free_cells.append(stream.cell)
            elif stream.lane is not None:
                self._bound_seconds_per_gb[stream.lane] -= stream.algorithm.seconds_per_gb

    def __repr__(self) -> str:
        return f"<Scheduler {len(self._turns)} sessions, {len(self._free_cells)} free cells>"


def _next_work(session: SessionState, lane: int) -> Work | None:
    if session.is_closed and session.fed_bytes <= WHOLE_BYTES and session.is_untouched:
        pieces = tuple(session.streams[0].waiting)
        return Work(session, session.streams, pieces, start=True, end=True)
    for stream in session.streams:
        may_run = stream.lane in (None, lane) and not stream.is_ended
        if may_run and (stream.waiting or session.is_closed):
            pieces = _first_pieces(stream)
            end = session.is_closed and len(pieces) == len(stream.waiting)
            return Work(session, (stream,), pieces, start=not stream.is_started, end=end, turn=stream.turn)
    return None


def _first_pieces(stream: Stream) -> tuple[Piece, ...]:
    bytes_left = WORK_SECONDS / stream.algorithm.seconds_per_gb * 1e9
    pieces: list[Piece] = []
    for piece in stream.waiting:
        bytes_left -= piece.length
        if pieces and (bytes_left < 0 or len(pieces) == WORK_PIECES):
            break
        pieces.append(piece)
    return tuple(pieces)


def _hand_out(work: Work, lane: int) -> None:
    next_turn = (work.turn + 1) % STATES_PER_CELL
    for stream in work.streams:
        for _ in work.pieces:
            stream.waiting.popleft()
        stream.works_in_flight += 1
        stream.turn = next_turn
        stream.is_started = True
        stream.is_ended = work.end
        if stream.cell is not None:
            stream.lane = lane


def _read_once(pieces_by_stream: Iterable[Iterable[Piece]]) -> list[Slot]:
    """Count one reading of each piece by each stream; give the slots of those that were read by all."""
    slots = []
    for pieces in pieces_by_stream:
        for piece in pieces:
            piece.streams_left -= 1
            if not piece.streams_left:
                slots.append(piece.slot)
    return slots
