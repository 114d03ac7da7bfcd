"""`hash-worker dead`: what was given up, as an operator sees it and decides on it."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis

from worker.local.broker import Broker
from worker.queueing.app import QUEUE
from worker.queueing.dead_letters import DeadLetter, DeadLetters

KEY = "a-key-that-nobody-may-see"


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Run a broker."""
    running = Broker(tmp_path / "broker")
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def letters(broker: Broker) -> DeadLetters:
    """Keep two letters: a job's and a message's."""
    box = DeadLetters(broker.url)
    payload = {"api": {"key_user": KEY}}
    box.keep(DeadLetter(reason="5 workers died over it.", job_id="job-7", job="J", payload=payload))
    box.keep(DeadLetter(reason="It is no [bold]JSON.", task="a.task", message=f"{{{KEY}"))
    return box


@pytest.fixture
def dead(hash_worker: Any, broker: Broker) -> Any:
    """Run `hash-worker dead …`."""
    environment = {**os.environ, "HASH_WORKER_BROKER__URL": broker.url, "COLUMNS": "120"}
    return lambda *arguments: hash_worker("dead", *arguments, env=environment)


def queued(broker: Broker) -> Any:
    """Give the messages on the queue."""
    with redis.Redis.from_url(broker.url) as client:
        return client.lrange(QUEUE, 0, -1)


def test_letters_are_listed_for_people_and_for_machines(dead: Any, letters: DeadLetters) -> None:
    """Number, time, job and reason; never a key."""
    table = dead()
    document = dead("--json")

    assert (table.returncode, document.returncode) == (0, 0)
    kept = letters.letters()
    header, *rows = table.stdout.splitlines()
    assert header.split() == ["id", "kept", "at", "job", "reason"]
    assert [row.rstrip().split(maxsplit=3) for row in rows] == [
        ["1", kept[0].kept_at, "job-7", "5 workers died over it."],
        ["2", kept[1].kept_at, "a.task", "It is no [bold]JSON."],
    ]
    assert [(one["id"], one["job_id"], one["task"]) for one in json.loads(document.stdout)] == [
        ("1", "job-7", None),
        ("2", None, "a.task"),
    ]
    for shown in (table, document):
        assert KEY not in shown.stdout + shown.stderr


def test_without_letters_it_says_so(dead: Any) -> None:
    """An empty table would leave a doubt."""
    assert dead().stdout == "There are no dead letters.\n"
    assert json.loads(dead("--json").stdout) == []


def test_a_letter_is_requeued_by_its_id(dead: Any, letters: DeadLetters, broker: Broker) -> None:
    """The second time there is none, and the exit status tells."""
    first, second = dead("requeue", "2"), dead("requeue", "2")

    assert (first.returncode, first.stdout) == (0, "Dead letter 2 is back on the queue.\n")
    assert (second.returncode, second.stderr) == (1, "hash-worker: There is no dead letter 2.\n")
    assert [letter.id for letter in letters.letters()] == ["1"]
    assert queued(broker) == [f"{{{KEY}".encode()]


def test_a_letter_that_holds_nothing_is_not_requeued(dead: Any, letters: DeadLetters) -> None:
    """It is kept, the rest is done, and the exit status tells."""
    letters.keep(DeadLetter(reason="Its end can't be delivered.", job="J2"))

    result = dead("requeue", "3", "2")

    assert (result.returncode, result.stdout) == (1, "Dead letter 2 is back on the queue.\n")
    assert result.stderr == "hash-worker: Dead letter 3 holds nothing to queue; it is kept.\n"
    assert [letter.id for letter in letters.letters()] == ["1", "3"]


@pytest.mark.parametrize(("command", "messages"), [("requeue", 2), ("drop", 0)])
def test_all_letters_can_be_decided_on_at_once(
    dead: Any, letters: DeadLetters, broker: Broker, command: str, messages: int
) -> None:
    """After an outage there are many."""
    result = dead(command, "--all")

    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 2
    assert not letters.letters()
    assert len(queued(broker)) == messages


def test_the_rest_is_done_if_one_is_gone(dead: Any, letters: DeadLetters) -> None:
    """The exit status tells that not all was as asked."""
    result = dead("drop", "9", "1")

    assert result.returncode == 1
    assert [letter.id for letter in letters.letters()] == ["2"]


@pytest.mark.parametrize("arguments", [["requeue"], ["drop"], ["drop", "1", "--all"]])
def test_nothing_is_done_if_it_is_not_clear_to_which(
    dead: Any, letters: DeadLetters, arguments: list[str]
) -> None:
    """Ids or --all, and not both."""
    result = dead(*arguments)

    assert (result.returncode, result.stderr) == (
        2,
        "hash-worker: Give the ids of dead letters, or --all.\n",
    )
    assert len(letters.letters()) == 2


@pytest.mark.parametrize("arguments", [[], ["--json"], ["requeue", "--all"], ["drop", "1"]])
def test_a_broker_that_is_away_is_one_sentence(hash_worker: Any, arguments: list[str]) -> None:
    """And exit status 1; nothing of the URL is shown."""
    environment = {**os.environ, "HASH_WORKER_BROKER__URL": "redis://:secret@127.0.0.1:1/0"}

    result = hash_worker("dead", *arguments, env=environment)

    assert result.returncode == 1
    assert result.stdout == ""
    expected = "The broker can't be asked for dead letters; `hash-worker check` tells why."
    assert result.stderr == f"hash-worker: {expected}\n"
