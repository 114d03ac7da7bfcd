"""Whether a worker still works: what counts as a stop, and what does not."""

import pytest

from worker.queueing.pulse import STOPPED_STATUS, Pulse

MOST_LOOKS = 24


@pytest.fixture
def ended_with() -> list[int]:
    """Give the statuses that the process was ended with."""
    return []


@pytest.fixture
def pulse(ended_with: list[int]) -> Pulse:
    """Give the pulse of a worker that works."""
    pulse = Pulse(ended_with.append)
    pulse.note_poll()
    pulse.note_turn(broker_answers=True)
    return pulse


def look_on(pulse: Pulse, looks: int, *, polls: bool, turns: bool, broker_answers: bool = True) -> None:
    """Look so many times, and have the parts heard of in between or not."""
    for _ in range(looks):
        if polls:
            pulse.note_poll()
        if turns:
            pulse.note_turn(broker_answers=broker_answers)
        pulse.look()


def test_a_worker_that_works_is_live_and_ready(pulse: Pulse, ended_with: list[int]) -> None:
    """However long it does."""
    look_on(pulse, 1000, polls=True, turns=True)

    assert (pulse.why_not_live(), pulse.why_not_ready(), ended_with) == (None, None, [])


def test_a_worker_whose_consumer_has_stopped_ends_itself(pulse: Pulse, ended_with: list[int]) -> None:
    """It would take no message any more, and nobody would see it."""
    look_on(pulse, 1 + MOST_LOOKS, polls=False, turns=True)
    before = [*ended_with]
    look_on(pulse, 1, polls=False, turns=True)

    assert (before, ended_with) == ([], [STOPPED_STATUS])
    assert pulse.why_not_live() == "The worker's consumer has stopped."


def test_a_worker_whose_event_loop_has_stopped_ends_itself(pulse: Pulse, ended_with: list[int]) -> None:
    """All reading and reporting is done there."""
    look_on(pulse, 2 + MOST_LOOKS, polls=True, turns=False)

    assert ended_with == [STOPPED_STATUS]
    assert pulse.why_not_live() == "The worker's event loop has stopped."


def test_a_worker_whose_broker_is_away_waits_for_it(pulse: Pulse, ended_with: list[int]) -> None:
    """What it has in hand goes on, and a new process would find no broker either."""
    look_on(pulse, 1000, polls=False, turns=True, broker_answers=False)

    assert ended_with == []
    assert pulse.why_not_live() is None
    assert pulse.why_not_ready() == "The broker does not answer."


def test_a_consumer_that_does_not_find_back_to_the_broker_is_noticed(
    pulse: Pulse, ended_with: list[int]
) -> None:
    """The broker answers again, and it is not asked for messages."""
    look_on(pulse, 100, polls=False, turns=True, broker_answers=False)

    look_on(pulse, 1 + MOST_LOOKS, polls=False, turns=True)

    assert ended_with == [STOPPED_STATUS]


def test_a_consumer_whose_attempts_are_all_in_vain_is_left_to_try(
    pulse: Pulse, ended_with: list[int]
) -> None:
    """A full broker, or one with no connection left, answers a ping; a new process would do no better."""
    for _ in range(1000):
        pulse.note_attempt()
        look_on(pulse, 1, polls=False, turns=True)

    assert ended_with == []
    assert pulse.why_not_live() is None


def test_a_silence_that_ends_counts_no_more(pulse: Pulse, ended_with: list[int]) -> None:
    """Only looks in a row count."""
    for _ in range(10):
        look_on(pulse, MOST_LOOKS, polls=False, turns=True)
        look_on(pulse, 1, polls=True, turns=True)

    assert ended_with == []


def test_a_worker_that_was_told_to_end_is_left_to_end(pulse: Pulse, ended_with: list[int]) -> None:
    """It takes no message then, and its tasks may have an hour."""
    pulse.end_soon(sig="TERM")

    look_on(pulse, 1000, polls=False, turns=False)

    assert ended_with == []
    assert pulse.why_not_ready() == "The worker is about to end."


def test_a_worker_that_has_never_asked_for_a_message_is_not_ready() -> None:
    """It has just begun."""
    pulse = Pulse()
    pulse.note_turn(broker_answers=True)

    assert pulse.why_not_live() is None
    assert pulse.why_not_ready() == "The worker has not asked for messages lately."
