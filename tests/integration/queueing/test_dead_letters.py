"""Dead letters in a real broker."""

import dataclasses
import json
import threading
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.support.toy_queue import ToyQueue, envelope, until
from worker.libsafe.names import KEPT_OF_A_BATCH, UNDELIVERED, batch_name
from worker.queueing import dead_letters
from worker.queueing.app import enqueue
from worker.queueing.dead_letters import DEAD, DeadLetter, DeadLetters, NothingToQueueError

KEY = "a-key-that-nobody-may-see"
J = "hash-worker:job:https://go.example/job/7"


def job_letter(name: str = "a") -> DeadLetter:
    """Make the letter of a job."""
    return DeadLetter(reason="It is poison.", job_id="7", job=J, payload={"name": name, "key": KEY})


def test_a_letter_comes_out_as_it_went_in(queue: ToyQueue) -> None:
    """With its number and the broker's time; its repr shows no key."""
    first = queue.dead.keep(job_letter())
    second = queue.dead.keep(DeadLetter(reason="It is no JSON.", message="{\udcff"))

    kept = queue.dead.letters()
    assert [letter.id for letter in kept] == [first, second] == ["1", "2"]
    assert dataclasses.replace(kept[0], id="", kept_at="") == job_letter()
    assert kept[1].message == "{\udcff"
    assert kept[0].kept_at.endswith("+00:00")
    assert KEY not in repr(kept)


def test_a_job_that_is_requeued_begins_anew(queue: ToyQueue) -> None:
    """Its attempts and its end are forgotten, its payload is on the queue, the letter is gone."""
    queue.redis.mset({f"{J}:attempts": 5, f"{J}:end": "FAILED", f"{J}:files": "kept"})
    letter_id = queue.dead.keep(job_letter())

    assert queue.dead.requeue(letter_id)

    assert not queue.dead.letters()
    assert queue.redis.exists(f"{J}:attempts", f"{J}:end") == 0
    assert queue.redis.exists(f"{J}:files") == 1
    queue.start_worker("-c", "1")
    queue.wait_for("end a")


def test_a_letter_that_the_freed_job_has_dropped_before_is_requeued_all_the_same(
    queue: ToyQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may take the payload faster than the letter is dropped here."""
    letter_id = queue.dead.keep(job_letter())

    def taken_at_once(app: Celery, document: dict[str, Any]) -> str:
        task_id = enqueue(app, document)
        queue.dead.drop(letter_id)
        return task_id

    monkeypatch.setattr(dead_letters, "enqueue", taken_at_once)

    assert queue.dead.requeue(letter_id)
    assert not queue.dead.letters()


def test_a_message_that_is_requeued_is_the_next_to_be_taken(queue: ToyQueue) -> None:
    """Byte for byte, for a worker that may know the task by then."""
    message = json.dumps(envelope([[{"name": "a"}], {}, {}]), indent=1)
    letter_id = queue.dead.keep(DeadLetter(reason="Unknown.", message=message))
    queue.send("b")

    assert queue.dead.requeue(letter_id)

    assert queue.messages()[-1] == message.encode()
    assert not queue.dead.letters()


def test_a_message_with_any_bytes_goes_round(queue: ToyQueue) -> None:
    """Refused by the transport, requeued, refused again: nothing of it changes."""
    raw = b'{"\xff\x00\xed\xa0\x80/\\'
    queue.start_worker("-c", "1")
    queue.send_raw(raw)
    (letter,) = until(queue.dead.letters)

    queue.dead.requeue(letter.id)

    until(lambda: [one.id for one in queue.dead.letters()] == ["2"])
    (again,) = queue.dead.letters()
    assert (again.message or "").encode(errors="surrogateescape") == raw


@pytest.mark.parametrize("letter", [job_letter(), DeadLetter(reason="Unknown.", message="{}")])
def test_a_letter_is_requeued_once(queue: ToyQueue, letter: DeadLetter) -> None:
    """The second time there is none; nor after it was dropped."""
    letter_id = queue.dead.keep(letter)

    assert queue.dead.requeue(letter_id)
    assert not queue.dead.requeue(letter_id)
    assert not queue.dead.drop(letter_id)
    assert len(queue.messages()) == 1


@pytest.mark.parametrize(
    "letter",
    [DeadLetter(reason="Empty."), DeadLetter(reason="It was told of.", job=J)],
    ids=["nothing", "a job whose outbox is gone"],
)
def test_a_letter_that_holds_nothing_to_queue_stays(queue: ToyQueue, letter: DeadLetter) -> None:
    """Whoever asks is told so, and the job stays as it is."""
    queue.redis.mset({f"{J}:attempts": 5, f"{J}:end": "FAILED"})
    letter_id = queue.dead.keep(letter)

    with pytest.raises(NothingToQueueError, match="Dead letter 1 holds nothing to queue"):
        queue.dead.requeue(letter_id)

    assert [kept.id for kept in queue.dead.letters()] == [letter_id]
    assert queue.redis.exists(f"{J}:attempts", f"{J}:end") == 2
    assert not queue.messages()


def test_an_end_that_waits_in_its_outbox_is_delivered_again(queue: ToyQueue) -> None:
    """Its letter holds no payload: there is only to be told how the job ended."""
    queue.redis.mset({f"{J}:end": "FAILED", f"{J}:head": KEY})
    queue.redis.xadd(f"{J}:outbox", {"reports": "[]"})
    letter_id = queue.dead.keep(DeadLetter(reason="401.", job=J))

    assert queue.dead.requeue(letter_id)

    assert queue.redis.smembers(UNDELIVERED) == {J.encode()}
    assert queue.redis.exists(f"{J}:end", f"{J}:head", f"{J}:outbox") == 3
    assert not queue.dead.letters()


def test_of_all_batches_that_are_put_aside_the_first_parks_their_job(queue: ToyQueue) -> None:
    """Each would say the same; the ledger knows that nothing more is to be sent."""
    queue.redis.hset(f"{J}:ledger", "spread", 1)

    for name in ("a", "b"):
        queue.dead.park(job_letter(name))

    (letter,) = queue.dead.letters()
    assert letter.payload == {"name": "a", "key": KEY}
    assert queue.redis.hget(f"{J}:ledger", "parked") == b"1"


def test_a_batch_of_a_job_that_is_not_known_any_more_makes_no_letter(queue: ToyQueue) -> None:
    """The job's letter was dropped, or the broker has lost its data: there is nothing to go on with."""
    queue.dead.park(job_letter())

    assert not queue.dead.letters()
    assert not queue.redis.exists(f"{J}:ledger")


def test_a_job_that_was_parked_and_is_requeued_goes_on_where_it_stands(queue: ToyQueue) -> None:
    """Its payload is on the queue; what is planned and what is done stays, and its batches' ends do."""
    stays = {f"{J}:batches", f"{J}:sent", f"{J}:ledger", f"{batch_name(J, 1)}:end", f"{J}:payload"}
    queue.redis.mset(dict.fromkeys(stays - {f"{J}:ledger"}, "x"))
    queue.redis.hset(f"{J}:ledger", "spread", 1)
    queue.dead.park(job_letter())
    (letter,) = queue.dead.letters()

    assert queue.dead.requeue(letter.id)

    assert not queue.dead.letters()
    assert len(queue.messages()) == 1
    assert queue.redis.exists(*stays) == len(stays)


def test_a_job_that_is_dropped_with_its_batches_leaves_no_key_behind(queue: ToyQueue) -> None:
    """Waiting, sent, done and undelivered ones: nothing of them is left, and nobody looks for their ends."""
    batches = [batch_name(J, number) for number in (1, 2, 10)]
    another = batch_name(f"{J}7", 1)
    for name in (*batches, another):
        queue.redis.mset({f"{name}:{what}": KEY for what in KEPT_OF_A_BATCH})
    queue.redis.sadd(UNDELIVERED, *batches, another)
    queue.redis.hset(f"{J}:batches", mapping=dict.fromkeys(("1", "2", "10"), KEY))
    queue.redis.hset(f"{J}:ledger", "spread", 1)
    queue.redis.hset(f"{J}:payload", mapping={"document": KEY, "head": KEY})
    queue.redis.zadd(f"{J}:waiting", {"2": 1})
    queue.redis.sadd(f"{J}:sent", "1", "10")
    queue.redis.hset(f"{J}:moving", "1", 5)
    queue.redis.mset({f"{J}:head": KEY, f"{J}:epoch": 1})
    queue.dead.park(job_letter())
    (letter,) = queue.dead.letters()

    assert queue.dead.drop(letter.id)

    others = {f"{another}:{what}" for what in KEPT_OF_A_BATCH}
    left = {key.decode() for key in queue.redis.scan_iter()}
    assert left == others | {UNDELIVERED, f"{J}:epoch", "hash-worker:dead:last"}
    assert queue.redis.smembers(UNDELIVERED) == {another.encode()}


GONE = {f"{J}:{what}" for what in ("head", "outbox", "files", "refused", "attempts")}
STAY = {f"{J}:end", f"{J}:epoch"}


def keys_of_job(queue: ToyQueue) -> set[str]:
    """Give the keys that the broker has of the job."""
    return {key.decode() for key in queue.redis.keys(f"{J}:*")}


def test_what_is_dropped_leaves_no_key_behind(queue: ToyQueue) -> None:
    """The head holds the key to the platform; that the job has ended stays known."""
    queue.redis.mset(dict.fromkeys(GONE | STAY, KEY))
    letter_id = queue.dead.keep(job_letter())

    assert queue.dead.drop(letter_id)

    assert keys_of_job(queue) == STAY
    assert not queue.dead.letters()


@pytest.mark.parametrize("by", ["a run", "the reconciler"])
def test_a_job_that_somebody_sees_to_is_not_dropped_with_its_letter(queue: ToyQueue, by: str) -> None:
    """It was queued again meanwhile, or its end is being told."""
    queue.redis.mset(dict.fromkeys(GONE | STAY, "x"))
    if by == "a run":
        queue.redis.set(f"{J}:lease", "a token")
    else:
        queue.redis.sadd(UNDELIVERED, J)
    letter_id = queue.dead.keep(job_letter())

    assert queue.dead.drop(letter_id)

    assert keys_of_job(queue) >= GONE | STAY
    assert not queue.dead.letters()


def test_a_letter_stays_if_the_broker_does_not_take_the_payload(
    queue: ToyQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped only when the payload is safe."""
    letter_id = queue.dead.keep(job_letter())

    def refuse(*_: object) -> None:
        raise OperationalError("the broker is away")

    monkeypatch.setattr(dead_letters, "enqueue", refuse)

    with pytest.raises(redis.exceptions.ConnectionError):
        queue.dead.requeue(letter_id)

    assert [letter.id for letter in queue.dead.letters()] == [letter_id]


def test_the_oldest_letter_makes_room(queue: ToyQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is bounded, and says so in the log."""
    logged: list[object] = []
    monkeypatch.setattr(dead_letters._log, "error", lambda event, **data: logged.append((event, data)))
    full = {str(number): '{"kept_at":1,"reason":"Old."}' for number in range(-9999, 1)}
    queue.redis.hset(DEAD, mapping=full)

    queue.dead.keep(job_letter())

    ids = [letter.id for letter in queue.dead.letters()]
    assert len(ids) == dead_letters.MOST_LETTERS
    assert (ids[0], ids[-1]) == ("-9998", "1")
    assert logged[-1] == ("The oldest dead letter was dropped, there are too many", {"letter": -9999})


def test_letters_of_many_threads_get_numbers_of_their_own(queue: ToyQueue) -> None:
    """Every worker writes to the same list."""
    threads = [threading.Thread(target=DeadLetters(queue.url).keep, args=[job_letter()]) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [letter.id for letter in queue.dead.letters()] == [str(number) for number in range(1, 9)]


def test_a_broker_that_is_away_is_an_error() -> None:
    """Of the redis library's own kind."""
    with pytest.raises(redis.exceptions.ConnectionError):
        DeadLetters("redis://127.0.0.1:1/0").letters()
