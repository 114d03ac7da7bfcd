"""Two queues in one worker: batches of large jobs never take all its places."""

import pytest

from tests.support.toy_queue import ToyQueue, until
from worker.queueing.app import BATCH_QUEUE, QUEUE


def most_batches_at_once(queue: ToyQueue) -> int:
    """Count the batches that ran at the same time, from what the tasks have told."""
    running = most = 0
    for what, name in (line.split(maxsplit=1) for line in queue.told()):
        if name.startswith("batch"):
            running += {"begin": 1, "end": -1}.get(what, 0)
            most = max(most, running)
    return most


def batches_waiting(queue: ToyQueue) -> int:
    """Count the batches that nobody has taken."""
    return int(queue.redis.llen(BATCH_QUEUE))


@pytest.mark.parametrize("places", [1, 2, 3])
def test_batches_take_their_places_and_a_payload_finds_one(queue: ToyQueue, places: int) -> None:
    """However many batches wait, as many run as may."""
    queue.start_worker("-c", "4", batches_at_once=places)
    names = [f"batch {number}" for number in range(places + 3)]

    for name in names:
        queue.send_batch(name, "hold")
    until(lambda: len(queue.told()) == places)
    queue.send("small")
    queue.wait_for("end small")
    told, waiting = queue.told(), batches_waiting(queue)
    queue.let_end()

    queue.wait_for(*(f"end {name}" for name in names))
    queue.wait_until_acknowledged()
    assert told == [*told[:places], "begin small", "end small"]
    assert waiting == 3
    assert most_batches_at_once(queue) == places


def test_without_a_limit_batches_take_all_places(queue: ToyQueue) -> None:
    """Nothing but a limit keeps them from it."""
    queue.start_worker("-c", "2")

    queue.send_batch("batch 1", "hold")
    queue.send_batch("batch 2", "hold")

    queue.wait_for("begin batch 1", "begin batch 2")


def test_both_queues_are_served_in_turn(queue: ToyQueue) -> None:
    """A long queue does not keep the other one waiting."""
    for number in range(4):
        queue.send(f"payload {number}")
        queue.send_batch(f"batch {number}")

    queue.start_worker("-c", "1", batches_at_once=1)

    queue.wait_for("end payload 3", "end batch 3")
    begun = [line.removeprefix("begin ") for line in queue.told() if line.startswith("begin")]
    assert begun == [f"{kind} {number}" for number in range(4) for kind in ("payload", "batch")]


def test_a_queue_without_a_place_is_not_looked_at(queue: ToyQueue) -> None:
    """Neither waited at nor taken from."""
    queue.start_worker("-c", "2", "-Q", f"{BATCH_QUEUE},{QUEUE}", batches_at_once=1)
    queue.send_batch("batch 1", "hold")
    queue.wait_for("begin batch 1")
    commands: list[str] = []

    with queue.redis.monitor() as monitor:
        # The wait that the first one ends was begun before.
        for name in ("small", "next"):
            queue.send(name)
            queue.wait_for(f"end {name}")
        queue.redis.echo("that is all")
        for command in monitor.listen():
            if "that is all" in command["command"]:
                break
            commands.append(command["command"])

    assert any(command.startswith("BLMOVE") and QUEUE in command for command in commands)
    assert not [command for command in commands if BATCH_QUEUE in command]


def test_a_worker_of_batches_alone_goes_on_when_a_place_is_free(queue: ToyQueue) -> None:
    """While it has none there is no list to wait at."""
    queue.start_worker("-c", "2", "-Q", BATCH_QUEUE, batches_at_once=1)
    queue.send_batch("batch 1", "hold")
    queue.send_batch("batch 2")
    queue.wait_for("begin batch 1")
    until(queue.is_answering)

    queue.let_end()

    queue.wait_for("end batch 2")
    assert queue.told() == ["begin batch 1", "end batch 1", "begin batch 2", "end batch 2"]


@pytest.mark.parametrize("does", ["", "let go", "break", "come again"])
def test_a_place_is_free_again_however_a_batch_went(queue: ToyQueue, does: str) -> None:
    """Ended, left to another worker, broken, or to be run again after a pause."""
    queue.start_worker("-c", "2", batches_at_once=1)

    queue.send_batch("batch 1", does)
    queue.wait_for("begin batch 1")
    queue.send_batch("batch 2")

    queue.wait_for("end batch 2")


def test_a_place_is_free_again_after_a_batch_that_is_none(queue: ToyQueue) -> None:
    """A dead letter takes no place."""
    queue.start_worker("-c", "2", batches_at_once=1)

    for _ in range(3):
        queue.send_raw(b"{", BATCH_QUEUE)
    queue.send_batch("batch 1")

    queue.wait_for("end batch 1")
    assert len(queue.dead.letters()) == 3


def test_a_batch_takes_a_place_when_its_countdown_is_over(queue: ToyQueue) -> None:
    """Before, it takes none; and if there is none by then, its message waits in the queue."""
    queue.start_worker("-c", "3", batches_at_once=1)
    queue.send_batch("batch later", countdown_seconds=1)
    until(lambda: queue.redis.hlen("unacked") and not batches_waiting(queue))

    queue.send_batch("batch now", "hold")
    queue.wait_for("begin batch now")
    until(lambda: batches_waiting(queue))
    queue.send("small")
    queue.wait_for("end small")
    told = queue.told()
    queue.let_end()

    queue.wait_for("end batch later")
    queue.wait_until_acknowledged()
    until(lambda: queue.app.control.inspect(timeout=0.5).stats()["toy0@here"]["prefetch_count"] == 3)
    assert "begin batch later" not in told
    assert most_batches_at_once(queue) == 1


def test_a_batch_that_runs_on_from_a_lost_connection_keeps_its_place(queue: ToyQueue) -> None:
    """The new connection's messages are not the only ones that count."""
    queue.start_worker("-c", "3", batches_at_once=2)
    queue.send_batch("batch 1", "hold")
    queue.send_batch("batch 2", "hold")
    queue.wait_for("begin batch 1", "begin batch 2")

    queue.cut_connections()
    until(lambda: queue.logs().count("Connected to") == 2)
    until(queue.is_answering)
    queue.send_batch("batch 3")
    for name in ("small", "next"):  # between them it is the other queue's turn
        queue.send(name)
        queue.wait_for(f"end {name}")
    waiting = batches_waiting(queue)
    queue.let_end()

    queue.wait_for("end batch 3")
    queue.wait_until_acknowledged()
    assert waiting == 1
    assert most_batches_at_once(queue) == 2
