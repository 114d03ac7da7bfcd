"""Messages between Redis and a worker: whoever dies or is cut off, none is lost."""

import json
import sys
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from kombu import Consumer, Queue
from kombu.exceptions import OperationalError

from tests.support.toy_queue import ToyQueue, envelope, until
from worker.local.broker import Broker
from worker.queueing.app import QUEUE


def taken(queue: ToyQueue) -> dict[str, Any]:
    """Give the messages that are noted as taken, by their tags."""
    return {tag.decode(): json.loads(entry) for tag, entry in queue.redis.hgetall("unacked").items()}


def test_a_message_leaves_the_queue_in_the_step_that_notes_it(queue: ToyQueue) -> None:
    """Whenever a worker dies, the message is in the queue or among the taken ones."""
    queue.start_worker("-c", "2")
    popped: list[str] = []

    with queue.redis.monitor() as monitor:
        queue.send("a")
        queue.wait_for("end a")
        queue.redis.echo("that is all")
        for command in monitor.listen():
            if "that is all" in command["command"]:
                break
            if QUEUE in command["command"] and "POP" in command["command"].split()[0].upper():
                popped.append(command["client_type"])

    assert popped
    assert set(popped) == {"lua"}


def test_a_taken_message_is_noted_as_it_was(queue: ToyQueue) -> None:
    """Its bytes are the producer's own, and a restored one goes to the queue that it was taken from."""
    message = envelope([[{"name": "é", "does": "hold"}], {}, {}])
    queue.start_worker("-c", "1")

    queue.send_raw(json.dumps(message, indent=1, ensure_ascii=False).encode())
    queue.wait_for("begin é")

    assert taken(queue) == {"a-tag": [message, "", QUEUE]}
    seconds, _ = queue.redis.time()
    assert abs(queue.redis.zscore("unacked_index", "a-tag") - seconds) < 30


def test_a_killed_workers_message_comes_to_another_one(queue: ToyQueue) -> None:
    """After the visibility timeout; it is marked as redelivered, and nothing is left of it in the end."""
    killed = queue.start_worker("-c", "1", visibility_timeout_seconds=2)
    queue.send("a", "hold")
    queue.wait_for("begin a")
    killed.kill()
    killed.wait()

    queue.let_end()
    queue.start_worker("-c", "1", visibility_timeout_seconds=2)
    queue.wait_for("end a")

    queue.wait_until_acknowledged()
    assert queue.told() == ["begin a", "begin a", "end a"]


def test_cut_connections_leave_running_tasks_alone(queue: ToyQueue) -> None:
    """Six times in a row: no task begins twice, each is acknowledged, and the worker still takes new ones."""
    queue.start_worker("-c", "2")
    queue.send("a", "hold")
    queue.send("b", "hold")
    queue.wait_for("begin a", "begin b")

    for _ in range(6):
        queue.cut_connections()
        until(queue.is_answering)
    queue.send("c")
    queue.let_end()

    queue.wait_for("end a", "end b", "end c")
    queue.wait_until_acknowledged()
    assert Counter(queue.told()) == {f"{what} {name}": 1 for what in ("begin", "end") for name in "abc"}
    assert queue.logs().count("Connected to") > 1


def test_cut_connections_lose_no_message_of_many(queue: ToyQueue) -> None:
    """The cuts fall anywhere between taking and acknowledging; a copy is allowed, a loss is not."""
    queue.start_worker("-c", "4", visibility_timeout_seconds=2)
    names = {f"m{number}" for number in range(300)}

    def send_all() -> None:
        for name in sorted(names):
            is_sent = False
            while not is_sent:
                # The producer's own connection is cut too: then it is told so, and sends again.
                with suppress(OperationalError):
                    queue.send(name)
                    is_sent = True

    sending = threading.Thread(target=send_all)

    sending.start()
    while sending.is_alive():
        queue.cut_connections()
        sending.join(timeout=0.3)

    queue.wait_for(*(f"end {name}" for name in names))
    queue.wait_until_acknowledged()


async def test_a_broker_that_was_away_finds_the_tasks_still_running(queue: ToyQueue, broker: Broker) -> None:
    """None begins twice, those that ended meanwhile and those that end later are acknowledged."""
    queue.start_worker("-c", "2", visibility_timeout_seconds=3600)
    queue.send("a", "hold")
    queue.wait_for("begin a")

    await broker.stop()
    until(lambda: "Cannot connect to" in queue.logs())
    await broker.start()
    until(queue.is_answering)
    queue.send("b")
    queue.wait_for("end b")
    queue.let_end()

    queue.wait_for("end a")
    queue.wait_until_acknowledged()
    assert queue.told() == ["begin a", "begin b", "end b", "end a"]


def test_a_running_task_can_be_terminated_after_its_connection_was_cut(queue: ToyQueue) -> None:
    """Celery itself forgets it then."""
    queue.start_worker("-c", "1")
    task_id = queue.send("a", "hold")
    queue.wait_for("begin a")
    queue.cut_connections()
    until(lambda: queue.logs().count("Connected to") == 2)
    until(queue.is_answering)
    queue.terminate(task_id)

    queue.wait_for("stop a revoked", "end a")


def test_every_priority_and_every_queue_is_served(queue: ToyQueue) -> None:
    """The worker waits at one list in Redis, and there are many."""
    queue.start_worker("-c", "1", "-Q", f"{QUEUE},other")
    tag = envelope("")["properties"]

    for number in range(10):
        message = envelope([[{"name": str(number)}], {}, {}])
        message["properties"] = {**tag, "delivery_tag": f"tag {number}", "priority": number}
        list_name = QUEUE if number < 3 else f"{QUEUE}\x06\x16{number // 3 * 3}"
        queue.send_raw(message, list_name)
    other = envelope([[{"name": "other"}], {}, {}])
    queue.send_raw(other, "other")

    queue.wait_for(*(f"end {number}" for number in range(10)), "end other")
    until(lambda: not queue.redis.exists("unacked"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{", "It is no JSON."),
        (b"[1, 2]", "It has no delivery_tag."),
        (b'{"properties": {"delivery_tag": ""}}', "It has no delivery_tag."),
        (
            b'{"properties": {"delivery_tag": "t"}, "body": "\xff"}',
            "It can't be opened (UnicodeDecodeError).",
        ),
        (b'{"properties": {"delivery_tag": "t"}, "n": 1' + b"[" * 2000, "It is no JSON."),
        (
            b'{"properties": {"delivery_tag": "t"}, "n": ' + b"[" * 998 + b"]" * 998 + b"}",
            # Later Pythons read as deep as the broker's Lua does.
            "It can't be opened (RecursionError)."
            if sys.version_info < (3, 12)
            else "It is no task message: task is missing or wrong.",
        ),
        (envelope("", headers=[]), "Its headers or its delivery_info are no object."),
        (
            envelope("x", properties={"delivery_tag": "t", "body_encoding": "secret"}),
            "It can't be opened (AttributeError).",
        ),
        (envelope("", headers={"compression": "gzip"}), "It is compressed, which is not supported."),
        (envelope("x" * (10 << 20)), "It is longer than 2097152 bytes."),
    ],
)
def test_a_faulty_envelope_becomes_a_dead_letter(queue: ToyQueue, message: Any, reason: str) -> None:
    """It is kept byte for byte, and the next message is run."""
    queue.start_worker("-c", "1")

    queue.send_raw(message)
    queue.send("a")
    queue.wait_for("end a")

    (letter,) = queue.dead.letters()
    assert letter.reason == reason
    kept = (letter.message or "").encode(errors="surrogateescape")
    assert kept == (message if isinstance(message, bytes) else json.dumps(message).encode())
    queue.wait_until_acknowledged()


def test_a_worker_with_a_wrong_clock_does_not_deliver_again(queue: ToyQueue) -> None:
    """Redis' clock decides, for the note and for the sweep."""
    queue.redis.zadd("unacked_index", {"mine": queue.redis.time()[0]})
    queue.redis.hset("unacked", "mine", json.dumps([envelope("mine"), "", QUEUE]))
    queue.redis.zadd("unacked_index", {"lost": queue.redis.time()[0] - 61})
    queue.redis.hset("unacked", "lost", json.dumps([envelope("lost"), "", QUEUE]))

    with pytest.MonkeyPatch.context() as patch, queue.app.connection_for_read() as connection:
        patch.setattr("time.time", lambda: 4e9)
        channel = connection.channel()
        channel.visibility_timeout = 60
        channel.qos.restore_visible()

    assert list(taken(queue)) == ["mine"]
    (message,) = map(json.loads, queue.messages())
    assert message["body"] == "lost"
    assert message["headers"]["redelivered"]


@pytest.mark.parametrize("losses", [0, 1], ids=["noted", "data lost"])
def test_a_message_that_no_task_has_begun_goes_back_when_the_connection_closes(
    queue: ToyQueue, losses: int
) -> None:
    """What was taken and not begun is not left to the visibility timeout, nor lost with the broker's data."""
    queue.send("a")
    raw = queue.messages()

    with queue.app.connection_for_read() as connection, connection.channel() as channel:
        with Consumer(channel, [Queue(QUEUE)], on_message=lambda _: None):
            connection.drain_events(timeout=5)
        assert not queue.messages()
        assert len(taken(queue)) == 1
        for _ in range(losses):
            queue.redis.flushall()

    assert queue.messages() == raw
    assert not taken(queue)


def test_answers_to_remote_control_are_not_noted(queue: ToyQueue) -> None:
    """They are consumed without acknowledgement, and would be delivered again for ever."""
    queue.start_worker("-c", "1")

    answers = queue.app.control.ping(timeout=1)

    assert answers == [{"toy0@here": {"ok": "pong"}}]
    assert not queue.redis.exists("unacked", "unacked_index")
