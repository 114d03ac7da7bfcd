"""What the scheduler decides when a lane has died."""

import pytest

from tests.support.scheduling import MIB, make_slots, names_of, open_session
from worker.hashing.scheduler import DEATHS, Scheduler
from worker.hashing.streams import SessionState, Work


@pytest.fixture
def scheduler() -> Scheduler:
    """Two lanes and ten cells."""
    return Scheduler(lane_count=2, cell_count=10)


def _die(scheduler: Scheduler, lane: int, *works: Work | None) -> list[SessionState]:
    """Let a lane die with some works in hand, as the pool does it."""
    in_hand = [work for work in works if work]
    lost = scheduler.lose(lane, in_hand)
    for session in lost:
        scheduler.abandon(session)
    for work in reversed(in_hand):
        scheduler.take_back(work)
    return lost


def _facts(work: Work | None) -> tuple[list[int], bool, bool, int]:
    assert work is not None
    return [piece.length for piece in work.pieces], work.start, work.end, work.turn


def test_what_a_dead_lane_had_in_hand_is_done_again_from_the_states_before(scheduler: Scheduler) -> None:
    """Two works of one stream, the second its end; another lane begins again where the first began."""
    session = open_session(scheduler, ["md5"], [8 * MIB, 9 * MIB])
    session.is_closed = True
    works = [scheduler.choose(0), scheduler.choose(0)]

    assert _die(scheduler, 0, *works) == []

    again = [scheduler.choose(1), scheduler.choose(1)]
    assert list(map(_facts, again)) == [([8 * MIB], True, False, 0), ([9 * MIB], False, True, 1)]
    assert scheduler.choose(0) is None


def test_what_a_dead_lane_had_answered_is_not_done_again(scheduler: Scheduler) -> None:
    """The second work goes on from the state that the first one left."""
    open_session(scheduler, ["md5"], [8 * MIB, 9 * MIB])
    first, second = scheduler.choose(0), scheduler.choose(0)
    assert first is not None
    scheduler.settle(first)

    assert _die(scheduler, 0, second) == []

    assert _facts(scheduler.choose(1)) == ([9 * MIB], False, False, 1)


def test_pieces_that_are_taken_back_go_before_those_that_wait(scheduler: Scheduler) -> None:
    """The order of the bytes is the object's; and the slots come back once, after the last reading."""
    session = open_session(scheduler, ["blake3", "crc32c"], [1, 2, 3])
    works = [scheduler.choose(0), scheduler.choose(0)]
    scheduler.feed(session, make_slots(1)[0], 4)

    assert _die(scheduler, 0, *works) == []

    again = [scheduler.choose(0), scheduler.choose(0)]
    assert [_facts(work)[0] for work in again] == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert [len(scheduler.settle(work)) for work in again if work] == [0, 4]


def test_a_small_object_outlives_its_lane_with_all_algorithms(scheduler: Scheduler) -> None:
    """One work from the first byte to the last leaves no state in the lane that dies."""
    session = open_session(scheduler, ["md5", "blake3"], [1, 2])
    session.is_closed = True

    assert _die(scheduler, 1, scheduler.choose(1)) == []

    again = scheduler.choose(0)
    assert names_of(again) == ["md5", "blake3"]
    assert _facts(again) == ([1, 2], True, True, 0)


@pytest.mark.parametrize("in_hand", [True, False])
def test_a_state_that_was_in_the_dead_lane_alone_loses_its_session(
    scheduler: Scheduler, *, in_hand: bool
) -> None:
    """BLAKE3's state is gone, whether or not the lane was at it."""
    session = open_session(scheduler, ["blake3"], [MIB])
    first = scheduler.choose(0)
    assert first is not None
    scheduler.settle(first)
    scheduler.feed(session, make_slots(1)[0], 1)
    second = scheduler.choose(0) if in_hand else None

    assert _die(scheduler, 0, second) == [session]

    assert scheduler.sessions == ()


def test_a_state_that_is_not_in_the_dead_lane_loses_no_session(scheduler: Scheduler) -> None:
    """Not begun, begun in the very work that is taken back, ended, in another lane, or in a cell."""
    open_session(scheduler, ["blake3"])
    begun = open_session(scheduler, ["blake3"], [MIB])
    begun.streams[0].lane = 0
    begin = scheduler.choose(0)
    ended = open_session(scheduler, ["blake3"], [MIB])
    ended.streams[0].lane = 0
    ended.is_closed = True
    end = scheduler.choose(0)
    elsewhere = open_session(scheduler, ["blake3"], [MIB])
    elsewhere.streams[0].lane = 1
    there = scheduler.choose(1)
    shared = open_session(scheduler, ["md5"], [MIB])
    in_cell = scheduler.choose(0)
    for work, session in ((end, ended), (there, elsewhere), (in_cell, shared)):
        assert work is not None
        assert work.session is session
        scheduler.settle(work)

    assert _die(scheduler, 0, begin) == []

    assert _facts(scheduler.choose(0)) == ([MIB], True, False, 0)


def test_a_piece_that_kills_three_lanes_loses_its_session_and_no_other(scheduler: Scheduler) -> None:
    """A poison piece must not kill for ever; the work behind it did not do it."""
    poison = open_session(scheduler, ["md5"], [8 * MIB])
    behind = open_session(scheduler, ["sha1"], [8 * MIB])

    lost = []
    for _ in range(DEATHS):
        works = [scheduler.choose(0), scheduler.choose(0)]
        works.sort(key=lambda work: work is None or work.session is behind)
        lost.append(_die(scheduler, 0, *works))

    assert lost == [[], [], [poison]]
    assert names_of(scheduler.choose(1)) == ["sha1"]


def test_deaths_over_one_piece_are_forgotten_when_a_lane_has_done_it(scheduler: Scheduler) -> None:
    """A long object may see many lanes die."""
    session = open_session(scheduler, ["md5"])
    for _ in range(DEATHS):
        scheduler.feed(session, make_slots(1)[0], 8 * MIB)
        for _ in range(DEATHS - 1):
            assert _die(scheduler, 0, scheduler.choose(0)) == []
        work = scheduler.choose(0)
        assert work is not None
        assert len(scheduler.settle(work)) == 1


def test_nobody_does_again_what_nobody_waits_for(scheduler: Scheduler) -> None:
    """A session that was left gives its slots and its cell when its lane has died."""
    session = open_session(scheduler, ["md5", "blake3"], [MIB])
    works = [scheduler.choose(0), scheduler.choose(0)]
    scheduler.abandon(session)

    assert scheduler.lose(0, [work for work in works if work]) == []
    assert [len(scheduler.take_back(work)) for work in works if work] == [0, 1]
    assert scheduler.choose(0) is None
    assert repr(scheduler) == "<Scheduler 0 sessions, 10 free cells>"


def test_a_lane_that_is_missing_gets_no_new_stream_and_those_that_wait_for_it_go_to_others(
    scheduler: Scheduler,
) -> None:
    """What has no state yet waits for nobody, and the lane counts again as soon as it is back."""
    waits = open_session(scheduler, ["blake3"], [MIB])
    assert waits.streams[0].lane == 0

    scheduler.close_lane(0)

    assert names_of(scheduler.choose(1)) == ["blake3"]
    assert open_session(scheduler, ["blake3"]).streams[0].lane == 1
    scheduler.open_lanes.add(0)
    assert open_session(scheduler, ["sha3-512"]).streams[0].lane == 0
