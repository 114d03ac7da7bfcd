"""Messages that Celery did not write, ours and the documented one: they are run as Celery's own."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.toy_queue import ToyQueue, until
from worker.queueing import message
from worker.queueing.app import BATCH_QUEUE, BATCH_TASK, QUEUE, QUEUED_AT, TASK

KEY = "a-key-that-nobody-may-see"
JOB = "hash-worker:job:https://go.example.org/job/7"
DOCUMENTED = json.loads(
    re.findall(
        "```json\n(.*?)```",
        (Path(__file__).parents[3] / "docs/messages.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )[0]
)


def decoded(raw: bytes) -> dict[str, Any]:
    """Read a message as kombu and Celery do."""
    read = json.loads(raw)
    body = read["body"]
    if read["properties"].pop("body_encoding", None) == "base64":
        body = base64.b64decode(body)
    arguments, named, then = json.loads(body)
    return {**read, "body": (arguments, named, {name: value for name, value in then.items() if value})}


def test_a_message_of_ours_means_what_celerys_own_does(queue: ToyQueue) -> None:
    """What it leaves out is what Celery takes for granted."""
    document = {"name": "é", "text": 'a "quoted" \\ text', "number": 1.5, "none": None}

    queue.app.send_task(TASK, args=[document], task_id="an-id")
    queue.send_raw(message.envelope(TASK, document, queue=QUEUE, task_id="an-id"))

    ours, theirs = map(decoded, queue.messages())
    headers, properties = theirs.pop("headers"), theirs.pop("properties")
    our_headers, our_properties = ours.pop("headers"), ours.pop("properties")
    assert ours == theirs
    assert 0 <= our_headers.pop(QUEUED_AT) - headers.pop(QUEUED_AT) < 60
    assert our_headers.items() <= headers.items()
    left_out = {name: headers[name] for name in headers.keys() - our_headers.keys()}
    left_out.pop("origin")  # tells which process sent it
    assert all(value in (None, 0, {}, [None, None]) for value in left_out.values())
    assert our_properties.pop("delivery_tag") == "an-id"
    assert our_properties.items() <= properties.items()
    # An address for an answer, which none of our tasks gives, and the usual priority.
    assert properties.keys() - our_properties.keys() == {"delivery_tag", "reply_to", "priority"}


def test_a_message_of_ours_is_run_and_shows_no_argument(queue: ToyQueue) -> None:
    """Events and remote control have the task's id and name, as of any other."""
    queue.start_worker("-c", "1")
    document = {
        "name": "a",
        "does": "hold",
        "api": {"key_user": KEY},
        "function_data": {"job": {"id": "299"}, "files": {"ids": ["7", "8"]}},
    }
    arguments = "job 299: 2 files and folders"

    with queue.events() as events:
        queue.send_raw(message.envelope(TASK, document, queue=QUEUE, task_id="an-id"))
        queue.wait_for("begin a")
        active = queue.app.control.inspect(timeout=0.5).active()
        queue.let_end()
        until(lambda: "task-succeeded" in [event["type"] for event in events])

    queue.wait_until_acknowledged()
    ((shown,),) = active.values()
    assert (shown["id"], shown["name"], shown["args"], shown["kwargs"]) == (
        "an-id",
        TASK,
        arguments,
        "{}",
    )
    (received,) = (event for event in events if event["type"] == "task-received")
    assert (received["uuid"], received["root_id"], received["args"]) == ("an-id", "an-id", arguments)
    assert KEY not in repr((active, events)) + queue.logs()


def test_a_message_of_ours_comes_again_in_its_own_queue(queue: ToyQueue) -> None:
    """A task that can't be run now is sent anew to where it came from."""
    queue.start_worker("-c", "1", "-Q", BATCH_QUEUE)
    document = {"job": JOB, "batch": 3, "does": "come again"}

    queue.send_raw(message.envelope(BATCH_TASK, document, queue=BATCH_QUEUE, task_id="an-id"), BATCH_QUEUE)

    queue.wait_for("end 3")
    queue.wait_until_acknowledged()


_FILL = """
for _, batch in ipairs({'0', '7', '1234567'}) do
  local message = string.gsub(ARGV[1], '@BATCH@', batch)
  redis.call('LPUSH', KEYS[1], message)
end
"""


@pytest.mark.parametrize("job", [JOB, 'hash-worker:job:http://[::1]:80/@BATCH@/%d/job/é "\\ @BATCH@'])
def test_a_template_becomes_a_batchs_message_in_redis(queue: ToyQueue, job: str) -> None:
    """By one replacement, whatever the job's name."""
    template = message.batch_template(job)

    queue.redis.eval(_FILL, 1, BATCH_QUEUE, template)

    messages = [decoded(raw) for raw in reversed(queue.redis.lrange(BATCH_QUEUE, 0, -1))]
    assert [read["body"] for read in messages] == [
        ([{"job": job, "batch": batch}], {}, {}) for batch in (0, 7, 1234567)
    ]
    for batch, read in zip((0, 7, 1234567), messages, strict=True):
        names = (
            read["headers"]["id"],
            read["properties"]["correlation_id"],
            read["properties"]["delivery_tag"],
        )
        assert len(set(names)) == 1
        assert names[0].endswith(f"-{batch}")
        assert read["headers"]["task"] == BATCH_TASK
        assert read["properties"]["delivery_info"] == {"exchange": "", "routing_key": BATCH_QUEUE}


def test_batches_made_from_a_template_are_run(queue: ToyQueue) -> None:
    """Each once, with its number as a number."""
    queue.start_worker("-c", "1")

    queue.redis.eval(_FILL, 1, BATCH_QUEUE, message.batch_template(JOB))

    queue.wait_for("end 0", "end 7", "end 1234567")
    queue.wait_until_acknowledged()
    assert not queue.dead.letters()


def test_no_two_templates_share_a_tasks_id() -> None:
    """Celery would stop the tasks of a job's next life that had been terminated in this one."""
    assert message.batch_template(JOB) != message.batch_template(JOB)


@pytest.mark.parametrize("does", ["", "come again"])
def test_the_documented_message_is_run(queue: ToyQueue, does: str) -> None:
    """Whatever it leaves out; also when it has to come again."""
    queue.start_worker("-c", "1")
    ((payload,), named, more) = json.loads(DOCUMENTED["body"])

    queue.send_raw(
        {**DOCUMENTED, "body": json.dumps([[{"name": "a", "does": does, **payload}], named, more])}
    )

    queue.wait_for("end a")
    queue.wait_until_acknowledged()
    assert not queue.dead.letters()


@pytest.mark.parametrize(
    "needed", ["body", "content-type", "headers.task", "headers.id", "properties.delivery_tag"]
)
def test_each_documented_field_is_needed(queue: ToyQueue, needed: str) -> None:
    """Without it the message becomes a dead letter."""
    queue.start_worker("-c", "1")
    incomplete = json.loads(json.dumps(DOCUMENTED))
    *outer, name = needed.split(".")
    (incomplete[outer[0]] if outer else incomplete).pop(name)

    queue.send_raw(incomplete)
    queue.send("good")

    queue.wait_for("end good")
    assert len(queue.dead.letters()) == 1
    assert queue.told() == ["begin good", "end good"]
