"""Remote control, events and logs of a real worker: the payload's keys are found in none of them."""

import json
from typing import Any

import pytest
from celery import Celery

from tests.support.toy_queue import ToyQueue, envelope, until
from worker.queueing.app import QUEUE, TASK

KEY = "a-key-that-nobody-may-see"


def foreign_producer(queue: ToyQueue, document: dict[str, Any]) -> None:
    """Send a task from an application that is not ours."""
    app = Celery(broker=queue.url, set_as_current=False)
    app.send_task(TASK, args=[document], queue=QUEUE, countdown=document.get("countdown"))
    app.close()


def stranger(queue: ToyQueue, document: dict[str, Any]) -> None:
    """Put a message on the queue whose headers show its arguments."""
    headers = {"task": TASK, "id": document["name"], "argsrepr": repr(document), "kwargsrepr": repr(document)}
    message = envelope([[document], {}, {}], headers=headers)
    message["properties"]["delivery_tag"] = document["name"]
    queue.send_raw(message)


def without_argsrepr(queue: ToyQueue, document: dict[str, Any]) -> None:
    """Send a task from our own application, as a script may."""
    queue.app.send_task(TASK, args=[document], kwargs={}, countdown=document.get("countdown"))


@pytest.mark.parametrize("produce", [foreign_producer, stranger, without_argsrepr])
def test_no_key_is_shown_by_remote_control_events_or_logs(queue: ToyQueue, produce: Any) -> None:
    """Whatever the producer says, and whether the task runs, waits, is retried, breaks or ends."""
    password = queue.url.split(":")[2].split("@")[0]
    queue.start_worker("-c", "1")
    with queue.events() as events:
        produce(queue, {"name": "held", "does": "hold", "key": KEY})
        queue.wait_for("begin held")
        queue.app.control.pool_grow(2)
        produce(queue, {"name": "later", "countdown": 600, "key": KEY})
        produce(queue, {"name": "broken", "does": "break", "key": KEY})
        produce(queue, {"name": "again", "does": "come again", "key": KEY})
        queue.wait_for("begin broken", "end again")
        inspect = queue.app.control.inspect(timeout=20, limit=1)
        (active,) = until(inspect.active).values()
        ids = [task["id"] for task in active]
        shown = [
            *(active, inspect.reserved(), inspect.scheduled(), inspect.query_task(ids), inspect.stats()),
            *(inspect.conf(with_defaults=True), inspect.report(), inspect.registered(), inspect.revoked()),
            inspect.active(safe=False),
        ]
        queue.let_end()
        queue.wait_for("end held")
        until(lambda: "task-failed" in [event["type"] for event in events])

    assert ids
    assert len(events) > 5
    for place in json.dumps(shown, default=str), repr(events), queue.logs():
        assert KEY not in place
        assert password not in place
