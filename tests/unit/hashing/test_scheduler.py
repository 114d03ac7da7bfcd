"""Which lane does what next."""

from collections import defaultdict, deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hashing.algorithms import ALGORITHMS, resolve
from worker.hashing.contexts import is_shareable
from worker.hashing.scheduler import WHOLE_BYTES, WORK_PIECES, Scheduler
from worker.hashing.slots import Slot
from worker.hashing.streams import SessionState, Work

_MIB = 1 << 20


def _slots(count: int) -> list[Slot]:
    return [Slot(index, memoryview(b"")) for index in range(count)]


def _names(work: Work | None) -> list[str]:
    assert work is not None
    return [stream.algorithm.name for stream in work.streams]


def _open(scheduler: Scheduler, names: Sequence[str], pieces: Sequence[int] = ()) -> SessionState:
    session = scheduler.open(resolve(names))
    for slot, length in zip(_slots(len(pieces)), pieces, strict=True):
        scheduler.feed(session, slot, length)
    return session


@pytest.fixture
def scheduler() -> Scheduler:
    """Two lanes and ten cells."""
    return Scheduler(lane_count=2, cell_count=10)


def test_nothing_fed_is_nothing_to_do(scheduler: Scheduler) -> None:
    """A session that waits for its bytes costs no lane anything."""
    _open(scheduler, ["md5"])

    assert scheduler.choose(0) is None


def test_the_dearest_algorithm_comes_first(scheduler: Scheduler) -> None:
    """An object can't pass its slowest algorithm, so that one never waits."""
    _open(scheduler, ["blake3", "sha1", "md5"], [_MIB])

    assert [_names(scheduler.choose(0)) for _ in range(3)] == [["md5"], ["sha1"], ["blake3"]]
    assert scheduler.choose(0) is None


def test_sessions_take_turns(scheduler: Scheduler) -> None:
    """A small object never waits for the end of a large one."""
    large = _open(scheduler, ["md5", "sha1"], [8 * _MIB] * 4)
    small = _open(scheduler, ["md5", "sha1"], [1])

    works = [scheduler.choose(0) for _ in range(4)]

    assert [work.session for work in works if work] == [large, small, large, small]


def test_a_busy_stream_goes_on_in_the_same_lane_only(scheduler: Scheduler) -> None:
    """Two lanes in one state would spoil it; the same lane keeps the order."""
    _open(scheduler, ["md5"], [8 * _MIB] * 2)
    scheduler.choose(0)

    assert scheduler.choose(1) is None
    assert _names(scheduler.choose(0)) == ["md5"]


def test_an_idle_stream_with_a_cell_goes_on_in_any_lane(scheduler: Scheduler) -> None:
    """Lanes without state of their own: whoever is free takes the next piece."""
    _open(scheduler, ["md5"], [8 * _MIB] * 2)
    first = scheduler.choose(0)
    assert first is not None
    scheduler.settle(first)

    second = scheduler.choose(1)

    assert _names(second) == ["md5"]
    assert (first.start, second and second.start) == (True, False)


def test_a_stream_without_a_cell_stays_in_one_lane(scheduler: Scheduler) -> None:
    """BLAKE3's state can't leave its lane."""
    _open(scheduler, ["blake3"], [_MIB])
    work = scheduler.choose(0)
    assert work is not None
    scheduler.settle(work)
    scheduler.feed(work.session, _slots(1)[0], 1)

    assert scheduler.choose(1) is None
    assert _names(scheduler.choose(0)) == ["blake3"]


def test_streams_that_cannot_move_are_spread_by_their_cost(scheduler: Scheduler) -> None:
    """The dearest gets a lane of its own, if the others are cheaper together."""
    session = _open(scheduler, ["blake3", "blake2s", "sha3-512", "sha3-256"])

    lanes = {stream.algorithm.name: stream.lane for stream in session.streams}

    assert lanes == {"sha3-512": 0, "sha3-256": 1, "blake2s": 1, "blake3": 1}


def test_a_session_that_is_over_weighs_on_no_lane(scheduler: Scheduler) -> None:
    """The next session finds the lanes as the first one did."""
    scheduler.abandon(_open(scheduler, ["sha3-512"]))

    assert _open(scheduler, ["sha3-512"]).streams[0].lane == 0


def test_without_a_free_cell_a_stream_stays_in_one_lane() -> None:
    """More sessions than cells are slower, never wrong."""
    scheduler = Scheduler(lane_count=2, cell_count=1)

    cells = [_open(scheduler, ["md5"]).streams[0].cell for _ in range(2)]

    assert cells == [0, None]


def test_a_cell_comes_back_when_its_session_is_over(scheduler: Scheduler) -> None:
    """Cells do not leak."""
    for _ in range(100):
        session = _open(scheduler, ["md5", "sha1", "sha256"], [8 * _MIB])
        work = scheduler.choose(0)
        assert work is not None
        scheduler.abandon(session)
        scheduler.settle(work)

    assert repr(scheduler) == "<Scheduler 0 sessions, 10 free cells>"


def test_a_cell_is_not_given_away_while_a_lane_writes_it(scheduler: Scheduler) -> None:
    """An abandoned session keeps its cells until the last lane has answered."""
    session = _open(scheduler, ["md5"], [8 * _MIB])
    work = scheduler.choose(0)
    assert work is not None
    scheduler.abandon(session)

    assert repr(scheduler) == "<Scheduler 1 sessions, 9 free cells>"
    scheduler.settle(work)
    assert repr(scheduler) == "<Scheduler 0 sessions, 10 free cells>"


def test_one_work_takes_several_pieces_of_a_cheap_algorithm(scheduler: Scheduler) -> None:
    """Many small pieces cost one message, but not the whole ring."""
    _open(scheduler, ["blake3"], [1000] * (WORK_PIECES + 1))

    works = [scheduler.choose(0), scheduler.choose(0)]

    assert [len(work.pieces) for work in works if work] == [WORK_PIECES, 1]


def test_one_work_takes_one_long_piece_of_a_dear_algorithm(scheduler: Scheduler) -> None:
    """A work is short, so that the next session's turn comes soon."""
    _open(scheduler, ["sha3-512"], [4 * _MIB] * 3)

    work = scheduler.choose(0)

    assert work is not None
    assert len(work.pieces) == 1


@pytest.mark.parametrize("pieces", [[], [1], [WHOLE_BYTES], [1, WHOLE_BYTES - 1]])
def test_a_small_object_is_one_work_with_all_algorithms(scheduler: Scheduler, pieces: list[int]) -> None:
    """A small object takes one hop."""
    session = _open(scheduler, ["sha1", "md5", "blake3"], pieces)
    session.is_closed = True

    work = scheduler.choose(1)

    assert _names(work) == ["md5", "sha1", "blake3"]
    assert work is not None
    assert (work.start, work.end, len(work.pieces)) == (True, True, len(pieces))
    assert scheduler.choose(0) is None


@pytest.mark.parametrize(("length", "is_closed"), [(WHOLE_BYTES + 1, True), (1, False)])
def test_a_larger_or_open_object_is_spread_over_the_lanes(
    scheduler: Scheduler, *, length: int, is_closed: bool
) -> None:
    """All lanes share a large object, and of an open one nobody knows that it is small."""
    session = _open(scheduler, ["sha1", "md5"], [length])
    session.is_closed = is_closed

    assert _names(scheduler.choose(0)) == ["md5"]
    assert _names(scheduler.choose(1)) == ["sha1"]


def test_the_digest_comes_with_the_last_piece(scheduler: Scheduler) -> None:
    """A known end costs no message of its own."""
    session = _open(scheduler, ["md5"], [8 * _MIB, 8 * _MIB])
    session.is_closed = True

    works = [scheduler.choose(0), scheduler.choose(0)]

    assert [work.end for work in works if work] == [False, True]
    assert scheduler.choose(0) is None


def test_an_end_that_was_not_known_is_a_work_without_pieces(scheduler: Scheduler) -> None:
    """Who learns late that there was no more still gets the digest."""
    session = _open(scheduler, ["md5"], [8 * _MIB])
    scheduler.choose(0)
    session.is_closed = True

    work = scheduler.choose(0)

    assert work is not None
    assert (work.pieces, work.end) == ((), True)


def test_a_slot_comes_back_when_every_algorithm_has_read_it(scheduler: Scheduler) -> None:
    """Not before the last, and once."""
    _open(scheduler, ["md5", "sha1"], [8 * _MIB])
    works = [scheduler.choose(0), scheduler.choose(1)]

    assert [len(scheduler.settle(work)) for work in works if work] == [0, 1]


def test_an_abandoned_session_gives_its_waiting_slots_at_once_and_the_others_later(
    scheduler: Scheduler,
) -> None:
    """A slot is never free while a lane still reads it."""
    session = _open(scheduler, ["md5", "sha1"], [8 * _MIB, 8 * _MIB])
    work = scheduler.choose(0)
    assert work is not None

    at_once = scheduler.abandon(session)

    assert [slot.index for slot in at_once] == [1]
    assert [slot.index for slot in scheduler.settle(work)] == [0]
    assert scheduler.sessions == ()


def test_abandoning_twice_is_fine(scheduler: Scheduler) -> None:
    """A session that failed is left later, too."""
    session = _open(scheduler, ["md5"], [1])

    assert len(scheduler.abandon(session)) == 1
    assert scheduler.abandon(session) == []


def test_an_abandoned_hasher_is_ended_in_its_lane(scheduler: Scheduler) -> None:
    """No lane keeps what nobody will ask for."""
    session = _open(scheduler, ["blake3"], [_MIB])
    first = scheduler.choose(0)
    assert first is not None
    scheduler.abandon(session)

    end = scheduler.choose(0)

    assert end is not None
    assert (end.pieces, end.end) == ((), True)
    scheduler.settle(first)
    scheduler.settle(end)
    assert scheduler.sessions == ()


def test_a_dead_lane_costs_only_the_sessions_that_had_something_in_it(scheduler: Scheduler) -> None:
    """A context in shared memory outlives the lanes; a work in hand and a lane's own state do not."""
    in_hand = _open(scheduler, ["md5"], [8 * _MIB])
    work = scheduler.choose(0)
    assert work is not None
    bound = _open(scheduler, ["blake3"], [8 * _MIB])
    bound_work = scheduler.choose(0)
    assert bound_work is not None
    scheduler.settle(bound_work)
    shared = _open(scheduler, ["sha1"], [8 * _MIB])
    shared_work = scheduler.choose(0)
    assert shared_work is not None
    scheduler.settle(shared_work)
    untouched = _open(scheduler, ["md5", "blake3"])

    lost = scheduler.lose(0, [work])

    assert lost == [in_hand, bound]
    assert shared not in lost
    assert untouched not in lost


def test_a_lane_that_is_missing_gets_no_new_stream_and_names_the_sessions_that_wait_for_it(
    scheduler: Scheduler,
) -> None:
    """What can move waits for nobody, and what is bound goes to the lanes that there are."""
    bound = _open(scheduler, ["blake3"], [_MIB])
    _open(scheduler, ["md5"], [_MIB])
    elsewhere = _open(scheduler, ["sha3-256"])

    waiting = scheduler.close_lane(0)

    assert waiting == (bound,)
    assert [stream.lane for stream in elsewhere.streams] == [1]
    assert _open(scheduler, ["blake3"]).streams[0].lane == 1
    scheduler.abandon(bound)
    assert scheduler.close_lane(0) == ()
    scheduler.open_lanes.add(0)
    assert _open(scheduler, ["blake3"]).streams[0].lane == 0


class _Simulation:
    """Lanes that write down what they are told, and a ring that checks who reads what."""

    def __init__(self, lane_count: int, cell_count: int) -> None:
        self.scheduler = Scheduler(lane_count, cell_count)
        self.lanes: list[deque[Work]] = [deque() for _ in range(lane_count)]
        self.read: dict[int, list[int]] = defaultdict(list)
        self.ended: list[int] = []
        self.free = deque(range(6))

    def hand_out(self, lane: int) -> None:
        if len(self.lanes[lane]) < 2 and (work := self.scheduler.choose(lane)):
            elsewhere = {
                stream.number
                for other, works in enumerate(self.lanes)
                if other != lane
                for busy in works
                for stream in busy.streams
            }
            assert not elsewhere & {stream.number for stream in work.streams}, "one state in two lanes"
            self.lanes[lane].append(work)

    def answer(self, lane: int) -> None:
        if not self.lanes[lane]:
            return
        work = self.lanes[lane].popleft()
        for stream in work.streams:
            assert work.start == (stream.number not in self.read)
            self.read[stream.number] += [piece.length for piece in work.pieces]
            self.ended += [stream.number] * work.end
        self.release(self.scheduler.settle(work))

    def release(self, slots: list[Slot]) -> None:
        being_read = {piece.slot.index for works in self.lanes for work in works for piece in work.pieces}
        for slot in slots:
            assert slot.index not in being_read
            assert slot.index not in self.free
            self.free.append(slot.index)


@given(st.data(), st.integers(1, 3), st.integers(0, 8))
def test_whatever_the_order_of_events_every_stream_reads_every_piece_once_and_in_order(
    data: st.DataObject, lane_count: int, cell_count: int
) -> None:
    """Random lanes, cells, sessions, lengths and interleavings; the slots all come back at the end."""

    def draw(limit: int) -> int:
        return data.draw(st.integers(0, limit - 1))

    simulation = _Simulation(lane_count, cell_count)
    names = data.draw(
        st.lists(st.lists(st.sampled_from(sorted(ALGORITHMS)), min_size=1, unique=True), max_size=4)
    )
    sessions = [simulation.scheduler.open(resolve(some)) for some in names]
    lengths = [[1 + draw(5) * _MIB for _ in range(draw(6))] for _ in names]
    unfed = [deque(some) for some in lengths]
    slots = _slots(6)
    while not all(session.is_over for session in sessions):
        index = draw(len(sessions))
        if unfed[index] and simulation.free:
            simulation.scheduler.feed(
                sessions[index], slots[simulation.free.popleft()], unfed[index].popleft()
            )
        sessions[index].is_closed |= not unfed[index]
        simulation.hand_out(draw(lane_count))
        simulation.answer(draw(lane_count))

    for session, some in zip(sessions, lengths, strict=True):
        assert all(simulation.read[stream.number] == some for stream in session.streams)
    assert sorted(simulation.ended) == sorted(
        stream.number for session in sessions for stream in session.streams
    )
    assert len(simulation.free) == 6
    assert repr(simulation.scheduler) == f"<Scheduler 0 sessions, {cell_count} free cells>"


def test_the_registry_has_algorithms_of_both_kinds() -> None:
    """Otherwise the tests above would say less than they seem to."""
    assert {is_shareable(algorithm) for algorithm in ALGORITHMS.values()} == {True, False}
