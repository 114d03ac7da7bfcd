"""Messages that are no task of ours: each is kept, none ends the worker, and no log shows what is in it."""

import base64
import json
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.toy_queue import ToyQueue, envelope, until
from worker.local.broker import Broker
from worker.queueing.app import BATCH_QUEUE, BATCH_TASK, TASK

KEY = "a-key-that-nobody-may-see"
ARGUMENTS: list[Any] = [
    [{"name": "a", "api": {"key_user": KEY}, "function_data": {"job": {"id": 7}}}],
    {},
    {},
]


class Evil:
    """Pickled, it would run a command when it is read."""

    def __reduce__(self) -> Any:
        return (print, ("pickle was read",))


def v2(**headers: object) -> dict[str, Any]:
    """Make a message of protocol 2 with these headers."""
    return envelope(ARGUMENTS, headers={"task": TASK, "id": "a-task", **headers})


FAULTY = {
    "pickle": envelope(
        base64.b64encode(pickle.dumps(Evil())).decode(),
        **{"content-type": "application/x-python-serialize", "content-encoding": "binary"},
    ),
    "yaml": envelope(f"key: {KEY}", **{"content-type": "application/x-yaml"}),
    "no JSON": envelope("{" + KEY),
    "no content": envelope(""),
    "a number": envelope(5),
    "no text": envelope("") | {"body": {"key": KEY}},
    "two parts": envelope(ARGUMENTS[:2]),
    "arguments are no list": envelope([KEY, {}, {}]),
    "no argument": envelope([[], {}, {}]),
    "two arguments": envelope([ARGUMENTS[0] * 2, {}, {}]),
    "a named argument": envelope([[], {"document": ARGUMENTS[0][0]}, {}]),
    "one more that is named": envelope([ARGUMENTS[0], {"more": 1}, {}]),
    "the argument is a text": envelope([[f"{KEY}"], {}, {}]),
    "away since a text": v2(away_since="yesterday"),
    "no headers": envelope(ARGUMENTS, headers={}),
    "unknown task": v2(task="another.task"),
    "task is a list": v2(task=["x"]),
    "no id": envelope(ARGUMENTS, headers={"task": TASK}),
    "id is a number": v2(id=5),
    "shadow is a list": v2(shadow=[1]),
    "retries is a text": v2(retries="many"),
    "time limits are texts": v2(timelimit=["a", "b"]),
    "one time limit": v2(timelimit=[1]),
    "wrong eta": v2(eta=f"soon {KEY}"[:4]),
    "eta is a number": v2(eta=5),
    "expired": v2(expires="2020-01-01T00:00:00+00:00"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """Run a broker for all tests of this file."""
    running = Broker(tmp_path_factory.mktemp("broker"))
    await running.start()
    yield running
    await running.stop()


@pytest.fixture(scope="module")
def served_queue(lasting_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyQueue]:
    """Run one worker for all tests of this file: whatever it is sent, it goes on."""
    toys = ToyQueue(lasting_broker.url, tmp_path_factory.mktemp("worker"))
    toys.start_worker("-c", "1")
    yield toys
    toys.kill_workers()
    toys.close()


@pytest.fixture
def queue(served_queue: ToyQueue) -> ToyQueue:
    """Give the queue with no dead letter."""
    for letter in served_queue.dead.letters():
        served_queue.dead.drop(letter.id)
    return served_queue


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_message_becomes_a_dead_letter(queue: ToyQueue, name: str) -> None:
    """With a reason; it is acknowledged, the next message is run, and no log has what was in it."""
    before = queue.told()

    queue.send_raw(FAULTY[name])
    queue.send(f"after {name}")
    queue.wait_for(f"end after {name}")

    (letter,) = until(queue.dead.letters)
    assert json.loads(letter.message or "") == FAULTY[name]
    assert letter.reason.endswith(".")
    queue.wait_until_acknowledged()
    assert queue.told() == [*before, f"begin after {name}", f"end after {name}"]
    assert "pickle was read" not in queue.logs()
    assert KEY not in queue.logs() + letter.reason + repr(letter)


def test_a_letter_tells_what_can_be_told(queue: ToyQueue) -> None:
    """The reason, and the job if the payload is readable."""
    for name in ("unknown task", "pickle", "expired", "id is a number", "two arguments"):
        queue.send_raw(FAULTY[name])
        queue.wait_until_acknowledged()

    assert [(letter.reason, letter.task, letter.job_id) for letter in queue.dead.letters()] == [
        ("This worker knows no such task.", "another.task", "7"),
        ("Its content type is application/x-python-serialize; only JSON is read.", TASK, None),
        ("It is an invalid task message: it expired before a worker took it.", TASK, "7"),
        ("It is no task message: id is missing or wrong.", TASK, "7"),
        ("Its arguments are not exactly one payload.", TASK, "7"),
    ]


JOB = "hash-worker:job:https://go.example.org/job/7"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [3],
        [{}],
        [{"job": JOB}],
        [{"job": JOB, "batch": -1}],
        [{"job": JOB, "batch": "3"}],
        [{"job": JOB, "batch": True}],
        [{"job": 7, "batch": 3}],
        [{"job": JOB, "batch": 3}] * 2,
    ],
    ids=json.dumps,
)
def test_a_message_of_no_batch_becomes_a_dead_letter(queue: ToyQueue, arguments: list[Any]) -> None:
    """One that has the job's name and the batch's number is run."""
    before = queue.told()
    name = f"after {json.dumps(arguments)}"
    headers = {"task": BATCH_TASK, "id": "a-task"}

    queue.send_raw(envelope([arguments, {}, {}], headers=headers), BATCH_QUEUE)
    queue.send_batch(name)
    queue.wait_for(f"end {name}")

    (letter,) = queue.dead.letters()
    assert (letter.reason, letter.task) == ("Its arguments are not exactly one batch.", BATCH_TASK)
    assert queue.told() == [*before, f"begin {name}", f"end {name}"]


def test_a_letter_of_a_batch_tells_its_job(queue: ToyQueue) -> None:
    """By the platform's id, as that of a payload does."""
    queue.send_batch("a", "break")

    (letter,) = until(queue.dead.letters)
    assert (letter.task, letter.job_id) == (BATCH_TASK, "7")


@pytest.mark.parametrize(
    "raw",
    [
        envelope(ARGUMENTS),
        envelope({"args": ARGUMENTS[0], "kwargs": {}}),
        envelope({"task": TASK, "id": "a-task", "args": ARGUMENTS[0], "kwargs": {}}, headers={}),
    ],
    ids=["protocol 2", "hybrid", "protocol 1"],
)
def test_a_strangers_message_is_run(queue: ToyQueue, raw: dict[str, Any]) -> None:
    """In every form that Celery knows."""
    before = queue.told()

    queue.send_raw(raw)

    until(lambda: queue.told() == [*before, "begin a", "end a"])
    queue.wait_until_acknowledged()
    assert not queue.dead.letters()
