"""Ending a worker, terminating a task, limits of time and of number: with our pool in a real worker."""

import signal
from typing import Any

import pytest

from tests.support.toy_queue import ToyQueue, until
from worker.queueing.app import TASK


def pool_of(queue: ToyQueue) -> dict[str, Any]:
    """Ask the one worker for its pool."""
    (stats,) = until(lambda: queue.app.control.inspect(timeout=1).stats()).values()
    return dict(stats["pool"])


def states(events: list[dict[str, Any]], task_id: str) -> list[str]:
    """Give the kinds of a task's events."""
    return [event["type"] for event in events if event.get("uuid") == task_id]


def test_sigterm_waits_for_a_task_that_ends_in_time(queue: ToyQueue) -> None:
    """Within the grace time nothing is stopped; the worker takes no more and exits 0."""
    worker = queue.start_worker("-c", "1", grace_seconds=60)
    queue.send("a", "hold")
    queue.wait_for("begin a")
    queue.send("b")

    worker.send_signal(signal.SIGTERM)
    until(lambda: "Warm shutdown" in queue.logs())
    queue.let_end()
    status = queue.end(worker)

    assert status == 0
    assert queue.told() == ["begin a", "end a"]
    assert len(queue.messages()) == 1
    assert not queue.redis.exists("unacked", "unacked_index")


def test_sigterm_gives_a_long_task_back(queue: ToyQueue) -> None:
    """After the grace time its message is in the queue again, and the worker exits 0."""
    worker = queue.start_worker("-c", "2", grace_seconds=0.2)
    queue.send("a", "hold")
    queue.wait_for("begin a")

    status = queue.end(worker, signal.SIGTERM)

    assert status == 0
    assert queue.told() == ["begin a", "stop a shutdown"]
    assert len(queue.messages()) == 1
    assert not queue.redis.exists("unacked", "unacked_index")


def test_a_second_sigterm_gives_a_long_task_back_at_once(queue: ToyQueue) -> None:
    """Whoever is in a hurry does not wait for the grace time."""
    worker = queue.start_worker("-c", "1", grace_seconds=3600)
    queue.send("a", "hold")
    queue.wait_for("begin a")

    worker.send_signal(signal.SIGTERM)
    # Not while the first one's handler may still hold a lock of Celery's signals.
    until(lambda: "Stopping Pool" in queue.logs())
    status = queue.end(worker, signal.SIGTERM)

    assert status == 0
    assert len(queue.messages()) == 1


@pytest.mark.parametrize("does", ["hold", "stick"])
def test_sigquit_gives_every_message_back(queue: ToyQueue, does: str) -> None:
    """Even that of a body which does not listen; the thread it sits in does not keep the process."""
    worker = queue.start_worker("-c", "1", grace_seconds=3600)
    queue.send("a", does)
    queue.wait_for("begin a")

    queue.end(worker, signal.SIGQUIT)

    assert len(queue.messages()) == 1
    assert not queue.redis.exists("unacked", "unacked_index")


def test_sigquit_ends_a_warm_shutdown(queue: ToyQueue) -> None:
    """An operator who has waited long enough."""
    worker = queue.start_worker("-c", "1", grace_seconds=3600)
    queue.send("a", "hold")
    queue.wait_for("begin a")

    worker.send_signal(signal.SIGTERM)
    until(lambda: "Stopping Pool" in queue.logs())
    queue.end(worker, signal.SIGQUIT)

    assert queue.told() == ["begin a", "stop a shutdown"]
    assert len(queue.messages()) == 1


def test_flowers_shutdown_keeps_to_the_grace_time(queue: ToyQueue) -> None:
    """It comes by remote control, without a signal."""
    worker = queue.start_worker("-c", "1", grace_seconds=0.2)
    queue.send("a", "hold")
    queue.wait_for("begin a")

    queue.app.control.shutdown()
    status = queue.end(worker)

    assert status == 0
    assert queue.told() == ["begin a", "stop a shutdown"]
    assert len(queue.messages()) == 1


def test_a_terminated_task_is_stopped_and_shown_as_revoked(queue: ToyQueue) -> None:
    """Its message is acknowledged when its body has returned, not before."""
    queue.start_worker("-c", "1")
    with queue.events() as events:
        task_id = queue.send("a", "hold")
        queue.wait_for("begin a")

        queue.terminate(task_id)
        queue.wait_for("stop a revoked", "end a")
        queue.wait_until_acknowledged()
        until(lambda: "task-revoked" in states(events, task_id))

    assert "task-succeeded" not in states(events, task_id)
    assert next(event for event in events if event["type"] == "task-revoked")["terminated"]
    assert queue.told() == ["begin a", "stop a revoked", "end a"]


def test_a_task_that_is_revoked_before_it_begins_is_begun_and_stopped(queue: ToyQueue) -> None:
    """Its body must end the job; a message that is only thrown away would leave it running for ever."""
    queue.start_worker("-c", "1")
    queue.send("a", "hold")
    queue.wait_for("begin a")
    task_id = queue.send("b", "hold")

    queue.app.control.revoke(task_id)
    until(lambda: "flagged as revoked" in queue.logs())
    queue.let_end()

    queue.wait_for("begin b", "stop b revoked", "end b")
    queue.wait_until_acknowledged()


@pytest.mark.parametrize("option", ["--time-limit", "--soft-time-limit"])
def test_a_workers_time_limit_stops_a_task(queue: ToyQueue, option: str) -> None:
    """It is shown as failed, and acknowledged when its body has returned."""
    queue.start_worker("-c", "1", option, "1")
    with queue.events() as events:
        task_id = queue.send("a", "hold")

        queue.wait_for("stop a time_limit", "end a")
        queue.wait_until_acknowledged()
        until(lambda: "task-failed" in states(events, task_id))

    assert "task-succeeded" not in states(events, task_id)
    (failed,) = (event for event in events if event["type"] == "task-failed")
    assert failed["exception"] == "TimeLimitExceeded(1.0)"


def test_a_messages_own_time_limit_stops_its_task(queue: ToyQueue) -> None:
    """The producer may set it."""
    queue.start_worker("-c", "1")

    queue.app.send_task(TASK, args=[{"name": "a", "does": "hold"}], time_limit=0.2)

    queue.wait_for("stop a time_limit", "end a")
    queue.wait_until_acknowledged()


def test_a_time_limit_by_remote_control_stops_the_tasks_that_follow(queue: ToyQueue) -> None:
    """Celery itself heeds it only after the next connection."""
    queue.start_worker("-c", "1")
    assert queue.app.control.time_limit(TASK, hard=0.2, reply=True, timeout=5)

    queue.send("a", "hold")

    queue.wait_for("stop a time_limit", "end a")


def test_the_pool_grows_and_shrinks(queue: ToyQueue) -> None:
    """As many tasks run as are allowed, and what runs when it shrinks runs on."""
    queue.start_worker("-c", "1")
    queue.send("a", "hold")
    queue.send("b", "hold")
    queue.wait_for("begin a")

    queue.app.control.pool_grow(1)
    queue.wait_for("begin b")
    grown = pool_of(queue)
    queue.app.control.pool_shrink(1)
    until(lambda: pool_of(queue)["max-concurrency"] == 1)
    queue.let_end()

    assert (grown["max-concurrency"], grown["threads"]) == (2, 2)
    queue.wait_for("end a", "end b")
    queue.wait_until_acknowledged()


def test_autoscale_grows_with_the_queue(queue: ToyQueue) -> None:
    """Between its two numbers."""
    queue.start_worker("--autoscale", "3,1")
    for name in "abcd":
        queue.send(name, "hold")

    until(lambda: sum(line.startswith("begin") for line in queue.told()) == 3)
    assert pool_of(queue)["max-concurrency"] == 3
    queue.let_end()

    queue.wait_for(*(f"end {name}" for name in "abcd"))
    queue.wait_until_acknowledged()


def test_a_message_that_is_let_go_stays_as_it_is(queue: ToyQueue) -> None:
    """Neither acknowledged nor rejected, while its place in the worker is free for the next one."""
    queue.start_worker("-c", "1")

    queue.send("a", "let go")
    queue.send("b")
    queue.wait_for("end b")

    until(lambda: queue.redis.zcard("unacked_index") == 1)
    assert queue.redis.hlen("unacked") == 1
    assert not queue.messages()
    assert not queue.app.control.inspect(timeout=1).active()["toy0@here"]


def test_a_task_that_comes_again_holds_no_place_meanwhile(queue: ToyQueue) -> None:
    """Its new message waits until its time, and others run."""
    queue.start_worker("-c", "1")

    queue.send("a", "come again")
    queue.send("b")

    queue.wait_for("end b", "end a")
    queue.wait_until_acknowledged()
    assert queue.told() == ["begin a", "begin b", "end b", "begin a", "end a"]


def test_a_body_that_breaks_makes_a_dead_letter(queue: ToyQueue) -> None:
    """Celery would acknowledge and forget it."""
    queue.start_worker("-c", "1")

    queue.send("a", "break")
    queue.send("b")
    queue.wait_for("end b")

    (letter,) = until(queue.dead.letters)
    assert letter.reason == "Its task failed unexpectedly (RuntimeError)."
    assert letter.task == TASK
    queue.wait_until_acknowledged()
