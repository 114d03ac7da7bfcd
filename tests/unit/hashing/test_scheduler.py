"""Which lane does what next."""

import pytest

from tests.support.scheduling import MIB, make_slots, names_of, open_session
from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.contexts import is_shareable
from worker.hashing.scheduler import WHOLE_BYTES, WORK_PIECES, Scheduler


@pytest.fixture
def scheduler() -> Scheduler:
    """Two lanes and ten cells."""
    return Scheduler(lane_count=2, cell_count=10)


def test_nothing_fed_is_nothing_to_do(scheduler: Scheduler) -> None:
    """A session that waits for its bytes costs no lane anything."""
    open_session(scheduler, ["md5"])

    assert scheduler.choose(0) is None


def test_the_dearest_algorithm_comes_first(scheduler: Scheduler) -> None:
    """An object can't pass its slowest algorithm, so that one never waits."""
    open_session(scheduler, ["blake3", "sha1", "md5"], [MIB])

    assert [names_of(scheduler.choose(0)) for _ in range(3)] == [["md5"], ["sha1"], ["blake3"]]
    assert scheduler.choose(0) is None


def test_sessions_take_turns(scheduler: Scheduler) -> None:
    """A small object never waits for the end of a large one."""
    large = open_session(scheduler, ["md5", "sha1"], [8 * MIB] * 4)
    small = open_session(scheduler, ["md5", "sha1"], [1])

    works = [scheduler.choose(0) for _ in range(4)]

    assert [work.session for work in works if work] == [large, small, large, small]


def test_a_busy_stream_goes_on_in_the_same_lane_only(scheduler: Scheduler) -> None:
    """Two lanes in one state would spoil it; the same lane keeps the order."""
    open_session(scheduler, ["md5"], [8 * MIB] * 2)
    scheduler.choose(0)

    assert scheduler.choose(1) is None
    assert names_of(scheduler.choose(0)) == ["md5"]


def test_an_idle_stream_with_a_cell_goes_on_in_any_lane(scheduler: Scheduler) -> None:
    """Lanes without state of their own: whoever is free takes the next piece."""
    open_session(scheduler, ["md5"], [8 * MIB] * 2)
    first = scheduler.choose(0)
    assert first is not None
    scheduler.settle(first)

    second = scheduler.choose(1)

    assert names_of(second) == ["md5"]
    assert (first.start, second and second.start) == (True, False)


def test_a_stream_without_a_cell_stays_in_one_lane(scheduler: Scheduler) -> None:
    """BLAKE3's state can't leave its lane."""
    open_session(scheduler, ["blake3"], [MIB])
    work = scheduler.choose(0)
    assert work is not None
    scheduler.settle(work)
    scheduler.feed(work.session, make_slots(1)[0], 1)

    assert scheduler.choose(1) is None
    assert names_of(scheduler.choose(0)) == ["blake3"]


def test_streams_that_cannot_move_are_spread_by_their_cost(scheduler: Scheduler) -> None:
    """The dearest gets a lane of its own, if the others are cheaper together."""
    session = open_session(scheduler, ["blake3", "blake2s", "sha3-512", "sha3-256"])

    lanes = {stream.algorithm.name: stream.lane for stream in session.streams}

    assert lanes == {"sha3-512": 0, "sha3-256": 1, "blake2s": 1, "blake3": 1}


def test_a_session_that_is_over_weighs_on_no_lane(scheduler: Scheduler) -> None:
    """The next session finds the lanes as the first one did."""
    scheduler.abandon(open_session(scheduler, ["sha3-512"]))

    assert open_session(scheduler, ["sha3-512"]).streams[0].lane == 0


def test_without_a_free_cell_a_stream_stays_in_one_lane() -> None:
    """More sessions than cells are slower, never wrong."""
    scheduler = Scheduler(lane_count=2, cell_count=1)

    cells = [open_session(scheduler, ["md5"]).streams[0].cell for _ in range(2)]

    assert cells == [0, None]


def test_a_cell_comes_back_when_its_session_is_over(scheduler: Scheduler) -> None:
    """Cells do not leak."""
    for _ in range(100):
        session = open_session(scheduler, ["md5", "sha1", "sha256"], [8 * MIB])
        work = scheduler.choose(0)
        assert work is not None
        scheduler.abandon(session)
        scheduler.settle(work)

    assert repr(scheduler) == "<Scheduler 0 sessions, 10 free cells>"


def test_a_cell_is_not_given_away_while_a_lane_writes_it(scheduler: Scheduler) -> None:
    """An abandoned session keeps its cells until the last lane has answered."""
    session = open_session(scheduler, ["md5"], [8 * MIB])
    work = scheduler.choose(0)
    assert work is not None
    scheduler.abandon(session)

    assert repr(scheduler) == "<Scheduler 1 sessions, 9 free cells>"
    scheduler.settle(work)
    assert repr(scheduler) == "<Scheduler 0 sessions, 10 free cells>"


def test_one_work_takes_several_pieces_of_a_cheap_algorithm(scheduler: Scheduler) -> None:
    """Many small pieces cost one message, but not the whole ring."""
    open_session(scheduler, ["blake3"], [1000] * (WORK_PIECES + 1))

    works = [scheduler.choose(0), scheduler.choose(0)]

    assert [len(work.pieces) for work in works if work] == [WORK_PIECES, 1]


def test_one_work_takes_one_long_piece_of_a_dear_algorithm(scheduler: Scheduler) -> None:
    """A work is short, so that the next session's turn comes soon."""
    open_session(scheduler, ["sha3-512"], [4 * MIB] * 3)

    work = scheduler.choose(0)

    assert work is not None
    assert len(work.pieces) == 1


@pytest.mark.parametrize("pieces", [[], [1], [WHOLE_BYTES], [1, WHOLE_BYTES - 1]])
def test_a_small_object_is_one_work_with_all_algorithms(scheduler: Scheduler, pieces: list[int]) -> None:
    """A small object takes one hop."""
    session = open_session(scheduler, ["sha1", "md5", "blake3"], pieces)
    session.is_closed = True

    work = scheduler.choose(1)

    assert names_of(work) == ["md5", "sha1", "blake3"]
    assert work is not None
    assert (work.start, work.end, len(work.pieces)) == (True, True, len(pieces))
    assert scheduler.choose(0) is None


@pytest.mark.parametrize(("length", "is_closed"), [(WHOLE_BYTES + 1, True), (1, False)])
def test_a_larger_or_open_object_is_spread_over_the_lanes(
    scheduler: Scheduler, *, length: int, is_closed: bool
) -> None:
    """All lanes share a large object, and of an open one nobody knows that it is small."""
    session = open_session(scheduler, ["sha1", "md5"], [length])
    session.is_closed = is_closed

    assert names_of(scheduler.choose(0)) == ["md5"]
    assert names_of(scheduler.choose(1)) == ["sha1"]


def test_the_digest_comes_with_the_last_piece(scheduler: Scheduler) -> None:
    """A known end costs no message of its own."""
    session = open_session(scheduler, ["md5"], [8 * MIB, 8 * MIB])
    session.is_closed = True

    works = [scheduler.choose(0), scheduler.choose(0)]

    assert [work.end for work in works if work] == [False, True]
    assert scheduler.choose(0) is None


def test_an_end_that_was_not_known_is_a_work_without_pieces(scheduler: Scheduler) -> None:
    """Who learns late that there was no more still gets the digest."""
    session = open_session(scheduler, ["md5"], [8 * MIB])
    scheduler.choose(0)
    session.is_closed = True

    work = scheduler.choose(0)

    assert work is not None
    assert (work.pieces, work.end) == ((), True)


def test_a_slot_comes_back_when_every_algorithm_has_read_it(scheduler: Scheduler) -> None:
    """Not before the last, and once."""
    open_session(scheduler, ["md5", "sha1"], [8 * MIB])
    works = [scheduler.choose(0), scheduler.choose(1)]

    assert [len(scheduler.settle(work)) for work in works if work] == [0, 1]


def test_an_abandoned_session_gives_its_waiting_slots_at_once_and_the_others_later(
    scheduler: Scheduler,
) -> None:
    """A slot is never free while a lane still reads it."""
    session = open_session(scheduler, ["md5", "sha1"], [8 * MIB, 8 * MIB])
    work = scheduler.choose(0)
    assert work is not None

    at_once = scheduler.abandon(session)

    assert [slot.index for slot in at_once] == [1]
    assert [slot.index for slot in scheduler.settle(work)] == [0]
    assert scheduler.sessions == ()


def test_abandoning_twice_is_fine(scheduler: Scheduler) -> None:
    """A session that failed is left later, too."""
    session = open_session(scheduler, ["md5"], [1])

    assert len(scheduler.abandon(session)) == 1
    assert scheduler.abandon(session) == []


def test_an_abandoned_hasher_is_ended_in_its_lane(scheduler: Scheduler) -> None:
    """No lane keeps what nobody will ask for."""
    session = open_session(scheduler, ["blake3"], [MIB])
    first = scheduler.choose(0)
    assert first is not None
    scheduler.abandon(session)

    end = scheduler.choose(0)

    assert end is not None
    assert (end.pieces, end.end) == ((), True)
    scheduler.settle(first)
    scheduler.settle(end)
    assert scheduler.sessions == ()


def test_the_registry_has_algorithms_of_both_kinds() -> None:
    """Otherwise the tests above would say less than they seem to."""
    assert {is_shareable(algorithm) for algorithm in ALGORITHMS.values()} == {True, False}
