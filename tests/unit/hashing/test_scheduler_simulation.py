"""The scheduler over random lanes that die at random moments."""

from collections import deque
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tests.support.scheduling import MIB, make_slots
from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.memory import STATES_PER_CELL
from worker.hashing.registry import resolve
from worker.hashing.scheduler import DEATHS, Scheduler
from worker.hashing.slots import Slot
from worker.hashing.streams import SessionState, Work

_TORN = (-1,)


class _Simulation:
    """Lanes that die, memory that they leave torn, and a ring that checks who reads what.

    A state is the lengths of the pieces that went into it, so a digest tells what was hashed.
    """

    def __init__(self, lane_count: int, cell_count: int) -> None:
        self.scheduler = Scheduler(lane_count, cell_count)
        self.lanes: list[deque[Work]] = [deque() for _ in range(lane_count)]
        self.done: list[deque[dict[int, tuple[int, ...]]]] = [deque() for _ in range(lane_count)]
        self.cells: dict[tuple[int, int], tuple[int, ...]] = {}
        self.own: list[dict[int, tuple[int, ...]]] = [{} for _ in range(lane_count)]
        self.digests: dict[int, tuple[int, ...]] = {}
        self.free = deque(range(6))

    def hand_out(self, lane: int) -> None:
        if len(self.lanes[lane]) < STATES_PER_CELL - 1 and (work := self.scheduler.choose(lane)):
            elsewhere = {
                stream.number
                for other, works in enumerate(self.lanes)
                if other != lane
                for busy in works
                for stream in busy.streams
            }
            assert not elsewhere & {stream.number for stream in work.streams}, "one state in two lanes"
            self.lanes[lane].append(work)

    def perform(self, lane: int, *, is_torn: bool = False) -> None:
        """Do the next work, or die in the middle of it."""
        if len(self.done[lane]) == len(self.lanes[lane]):
            return
        work = self.lanes[lane][len(self.done[lane])]
        states = {}
        for stream in work.streams:
            own = self.own[lane]
            if work.start:
                before: tuple[int, ...] = ()
            elif stream.cell is None:
                before = own[stream.number]
            else:
                before = self.cells[stream.cell, work.turn]
            after = _TORN if is_torn else before + tuple(piece.length for piece in work.pieces)
            states[stream.number] = after
            if stream.cell is None:
                own[stream.number] = after
            else:
                self.cells[stream.cell, (work.turn + 1) % STATES_PER_CELL] = after
        self.done[lane].append(states)

    def answer(self, lane: int) -> None:
        if not self.done[lane]:
            return
        work = self.lanes[lane].popleft()
        states = self.done[lane].popleft()
        if work.end and not work.session.settled.is_set():
            assert not states.keys() & self.digests.keys(), "two digests"
            self.digests.update(states)
        self.release(self.scheduler.settle(work))

    def die(self, lane: int) -> list[SessionState]:
        """End a lane, in the middle of a work if it has one, as the pool does it."""
        self.perform(lane, is_torn=True)
        works = self.lanes[lane]
        self.lanes[lane], self.done[lane], self.own[lane] = deque(), deque(), {}
        lost = self.scheduler.lose(lane, works)
        for session in lost:
            assert any(stream.cell is None or stream.deaths == DEATHS for stream in session.streams)
            self.release(self.scheduler.abandon(session), works)
        while works:
            self.release(self.scheduler.take_back(works.pop()), works)
        return lost

    def release(self, slots: list[Slot], dying: Iterable[Work] = ()) -> None:
        wanted = {
            piece.slot.index for works in (*self.lanes, dying) for work in works for piece in work.pieces
        }
        for session in self.scheduler.sessions:
            wanted |= {piece.slot.index for stream in session.streams for piece in stream.waiting}
        for slot in slots:
            assert slot.index not in wanted
            assert slot.index not in self.free
            self.free.append(slot.index)


@given(st.data(), st.integers(1, 3), st.integers(0, 8))
def test_whatever_the_order_of_events_every_digest_is_of_every_piece_once_and_in_order(
    data: st.DataObject, lane_count: int, cell_count: int
) -> None:
    """Random lanes, cells, sessions, lengths, orders of events and deaths; the slots all come back."""

    def draw(limit: int) -> int:
        return data.draw(st.integers(0, limit - 1))

    simulation = _Simulation(lane_count, cell_count)
    names = data.draw(
        st.lists(st.lists(st.sampled_from(sorted(ALGORITHMS)), min_size=1, unique=True), max_size=4)
    )
    sessions = [simulation.scheduler.open(resolve(some)) for some in names]
    lengths = [[1 + draw(5) * MIB for _ in range(draw(6))] for _ in names]
    unfed = [deque(some) for some in lengths]
    slots = make_slots(6)
    lost: list[SessionState] = []
    deaths_left = draw(6)
    while not all(session.is_over for session in sessions):
        index = draw(len(sessions))
        if unfed[index] and simulation.free and sessions[index] not in lost:
            simulation.scheduler.feed(
                sessions[index], slots[simulation.free.popleft()], unfed[index].popleft()
            )
        sessions[index].is_closed |= not unfed[index]
        simulation.hand_out(draw(lane_count))
        simulation.perform(draw(lane_count))
        simulation.answer(draw(lane_count))
        if deaths_left and draw(5) == 0:
            deaths_left -= 1
            lost += simulation.die(draw(lane_count))

    for session, some in zip(sessions, lengths, strict=True):
        if session not in lost:
            assert all(simulation.digests[stream.number] == tuple(some) for stream in session.streams)
    assert len(simulation.free) == 6
    assert repr(simulation.scheduler) == f"<Scheduler 0 sessions, {cell_count} free cells>"
