"""What becomes of a message when our own task has decided on it: a real broker, a real worker."""

import json
from typing import Any

import pytest

from tests.support.toy_queue import ToyQueue, envelope, until
from worker.queueing.app import TASK
from worker.queueing.fate import Fate

DAY = 24 * 3600


def payload(*fates: Fate, **more: Any) -> dict[str, Any]:
    """Make a payload whose messages have these fates, one after the other."""
    return {"name": "a", "fates": fates, **more}


AWAY = payload(Fate.COMES_AGAIN, is_away=True)


def message(document: dict[str, Any], **headers: Any) -> bytes:
    """Make a producer's message."""
    made = envelope([[document], {}, {}], headers={"task": TASK, "id": "a-task", **headers})
    return json.dumps(made, indent=1).encode()


def test_a_message_that_a_full_broker_does_not_take_again_is_not_lost(queue: ToyQueue) -> None:
    """Deleting works when nothing else does, and Celery would delete it."""
    queue.start_worker("-c", "1", program="fate_worker", visibility_timeout_seconds=2)
    queue.send_raw(message(payload(Fate.COMES_AGAIN, Fate.ACKNOWLEDGED, holds=True)))
    queue.wait_for("begin a")

    queue.redis.config_set("maxmemory", 1)
    queue.let_end()
    until(lambda: "A message can't be sent anew" in queue.logs())
    queue.redis.config_set("maxmemory", 0)

    until(lambda: queue.told() == ["begin a", "begin a"])
    queue.wait_until_acknowledged()
    assert not queue.dead.letters()


def test_a_letter_that_a_full_broker_does_not_keep_is_kept_later(queue: ToyQueue) -> None:
    """Its message stays, and comes again by itself."""
    queue.start_worker("-c", "1", program="fate_worker", visibility_timeout_seconds=2)
    queue.send_raw(message(payload(Fate.PUT_ASIDE, holds=True)))
    queue.wait_for("begin a")

    queue.redis.config_set("maxmemory", 1)
    queue.let_end()
    until(lambda: "the broker does not take it" in queue.logs())
    queue.redis.config_set("maxmemory", 0)

    (letter,) = until(queue.dead.letters)
    assert letter.payload == payload(holds=True) | {"fates": ["put aside"]}
    queue.wait_until_acknowledged()


@pytest.mark.parametrize("trouble", ["none", "data lost", "full"])
def test_a_message_goes_back_whatever_the_broker_knows_of_it(queue: ToyQueue, trouble: str) -> None:
    """Byte for byte, and once."""
    raw = message(payload(Fate.GOES_BACK, Fate.LET_GO, holds=True))
    queue.start_worker("-c", "1", program="fate_worker", visibility_timeout_seconds=3600)
    queue.send_raw(raw)
    queue.wait_for("begin a")

    if trouble == "data lost":
        queue.redis.flushall()
    elif trouble == "full":
        queue.redis.config_set("maxmemory", 1)
    queue.let_end()
    if trouble == "full":
        until(queue.messages)  # nothing can be taken before there is room
        queue.redis.config_set("maxmemory", 0)

    until(lambda: queue.told() == ["begin a", "begin a"])
    assert queue.redis.hgetall("unacked") == {b"a-tag": b'[%s,"","hashing"]' % raw}
    assert not queue.messages()


@pytest.mark.parametrize(
    ("away_for", "retries", "document", "is_away_for"),
    [
        (None, 0, AWAY, 0),
        (None, 1_000_000, AWAY, 0),
        (1000, 5, AWAY, 1000),
        (2 * DAY, 5, AWAY | {"is_away": False}, None),
    ],
    ids=["begins", "begins after a long wait for another worker", "goes on", "ends"],
)
def test_a_message_that_comes_again_says_since_when_its_platform_is_away(
    queue: ToyQueue, away_for: int | None, retries: int, document: dict[str, Any], is_away_for: int | None
) -> None:
    """How often it came tells nothing: it also waits for another worker to end the job."""
    seconds, _ = queue.redis.time()
    header = {} if away_for is None else {"away_since": seconds - away_for}
    queue.start_worker("-c", "1", program="fate_worker")
    queue.send_raw(message(document, retries=retries, **header))
    queue.wait_for("begin a")

    def again() -> Any:
        entries = [json.loads(entry)[0] for entry in queue.redis.hvals("unacked")]
        found = [entry["headers"] for entry in entries if entry["headers"].get("retries") == retries + 1]
        return found and found[0]

    headers = until(again)

    if is_away_for is None:
        assert "away_since" not in headers
    else:
        assert abs(seconds - is_away_for - headers["away_since"]) < 60
    assert not queue.dead.letters()


def test_a_message_whose_platform_is_away_for_a_day_is_put_aside(queue: ToyQueue) -> None:
    """Somebody has to look at it."""
    seconds, _ = queue.redis.time()
    queue.start_worker("-c", "1", program="fate_worker")

    queue.send_raw(message(AWAY, away_since=seconds - DAY - 60))

    (letter,) = until(queue.dead.letters)
    assert letter.reason == "for a reason."
    queue.wait_until_acknowledged()
