"""Whether a worker still works: what counts as a stop, and what does not."""

import asyncio
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery import signals

from worker.queueing.pulse import CUT_SHORT_STATUS, STOPPED_STATUS, Pulse

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


def until(ended_with: list[int]) -> None:
    """Wait until the process was ended; the test's own time limit bounds it."""
    while not ended_with:
        time.sleep(0.005)


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


def test_a_worker_that_consumes_from_no_queue_is_live_and_not_ready(
    pulse: Pulse, ended_with: list[int]
) -> None:
    """Remote control has cancelled its consumers; it can have them added again."""
    pulse.note_queues(has_queues=False)
    look_on(pulse, 1000, polls=True, turns=True)

    assert (pulse.why_not_live(), ended_with) == (None, [])
    assert pulse.why_not_ready() == "The worker consumes from no queue: it was told so by remote control."
    pulse.note_queues(has_queues=True)
    assert pulse.why_not_ready() is None


@pytest.fixture
def watched(pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """Have the pulse of a worker watched that has 0.05 s to end."""
    monkeypatch.setattr("worker.queueing.pulse._END_SECONDS", 0.04)
    pulse.watch(grace_seconds=0.01)
    yield pulse
    signals.worker_shutting_down.disconnect(pulse.end_soon)


@pytest.mark.parametrize("by_remote_control", [False, True])
def test_a_worker_that_comes_to_no_end_is_ended(
    watched: Pulse,
    ended_with: list[int],
    by_remote_control: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A broker that is silent may hold it up for minutes, and whoever waits would kill it."""
    for _ in range(2):
        if by_remote_control:
            watched.end_soon()
        else:
            signals.worker_shutting_down.send(sender="a worker", sig="TERM", how="Warm", exitcode=0)

    until(ended_with)

    assert ended_with == [CUT_SHORT_STATUS]


def test_a_worker_whose_last_line_nobody_reads_ends_all_the_same(
    pulse: Pulse, ended_with: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full pipe holds up whoever logs, perhaps the very thread that has stopped."""
    monkeypatch.setattr("worker.queueing.pulse._LAST_LINE_SECONDS", 0.01)
    is_read = threading.Event()
    full = SimpleNamespace(critical=lambda *_, **__: is_read.wait())
    monkeypatch.setattr("worker.queueing.pulse._log", full)
    how = {"polls": False, "turns": True}
    watchdog = threading.Thread(target=look_on, args=[pulse, 2 + MOST_LOOKS], kwargs=how)

    watchdog.start()
    until(ended_with)
    is_read.set()
    watchdog.join()

    assert ended_with[0] == STOPPED_STATUS


async def test_an_unexpected_error_does_not_end_the_pulse(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a worker that is well would be taken for one whose event loop has stopped."""
    monkeypatch.setattr("worker.queueing.pulse._TURN_SECONDS", 0)
    asked = asyncio.Event()

    class Broken:
        calls = 0

        async def ping(self) -> None:
            self.calls += 1
            if self.calls == 3:
                asked.set()
            raise RuntimeError("a bug")

    turning = asyncio.create_task(pulse.turn(Broken()))  # type: ignore[arg-type]  # all that is asked of a client
    await asyncio.wait([turning, asyncio.create_task(asked.wait())], return_when=asyncio.FIRST_COMPLETED)

    assert not turning.done()
    assert pulse.why_not_ready() == "The broker does not answer."
    turning.cancel()
