"""What Flower makes of a task's progress: its own state machine reads the very events that are sent."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.events.state import State
from celery.worker import state as worker_state

from worker.jobs.ledger import JobState, Snapshot
from worker.queueing.app import make_app
from worker.queueing.events import Dispatcher
from worker.queueing.progress_events import ProgressEvents, progress_text

TASK_ID = "a-task"
HALF = Snapshot(
    state=JobState.RUNNING,
    files=1000,
    size_bytes=2_000_000_000,
    is_planned=True,
    done_files=450,
    done_bytes=1_000_000_000,
    seconds=10.0,
)
HALF_TEXT = "50 % done: 450 of 1000 files, 100.0 MB/s, 10 s left."
PLANNING = Snapshot(state=JobState.RUNNING, files=2000)


class Flower:
    """Reads what a worker publishes, as Flower does. A broker that hangs keeps its sender waiting."""

    def __init__(self) -> None:
        self.state = State()
        self.types: list[str] = []
        self.results: list[str] = []
        self.is_away = False
        self.refusals = 0
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()

    def publish(self, event: dict[str, Any], **_: Any) -> None:
        """Take an event, in the place of kombu's producer."""
        self.asked.set()
        assert self.answers.wait(timeout=30)
        if self.is_away:
            self.refusals += 1
            raise ConnectionError("the broker is away")
        self.types.append(event["type"])
        if event["type"] == "task-progress":
            self.results.append(event["result"])
        self.state.event({"local_received": event["timestamp"], **event})

    @property
    def task(self) -> Any:
        """What its pages show of the task."""
        return self.state.tasks[TASK_ID]


class Request:
    """A task's request in its worker, as far as events go."""

    name = "worker.hash_files"

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's signature
        """Send an event, in any thread."""
        self._dispatcher.send(type, uuid=TASK_ID, **fields)

    def end(self, type: str, **fields: Any) -> None:  # noqa: A002 - as above
        """Do as Celery at a task's end: off the list first."""
        worker_state.requests.pop(TASK_ID, None)
        self.send_event(type, **fields)


@pytest.fixture
def flower() -> Flower:
    """Look at the worker."""
    return Flower()


@pytest.fixture
def request_(flower: Flower) -> Iterator[Request]:
    """Begin a task in a worker whose events Flower reads."""
    app = make_app("redis://nowhere")
    dispatcher = Dispatcher(app.connection_for_write(), hostname="a@worker", enabled=False, app=app)
    dispatcher.enabled = True
    dispatcher.buffer_while_offline = False
    dispatcher.producer = SimpleNamespace(publish=flower.publish)
    request = Request(dispatcher)
    worker_state.requests[TASK_ID] = request
    request.send_event("task-received", name=Request.name, args="job 299: 2 files and folders")
    request.send_event("task-started")
    yield request
    worker_state.requests.pop(TASK_ID, None)
    app.close()


@pytest.fixture
def progress() -> Iterator[ProgressEvents]:
    """Send progress."""
    with ProgressEvents() as progress:
        yield progress


def until(is_true: Any) -> None:
    """Wait for the thread; the test's own time limit bounds it."""
    while not is_true():
        threading.Event().wait(0.005)


def test_a_running_task_is_shown_with_its_progress(
    flower: Flower, request_: Request, progress: ProgressEvents
) -> None:
    """State and result tell how far the job is; the end takes their place."""
    progress.show(TASK_ID, HALF)
    until(lambda: flower.results)
    shown = (flower.task.state, flower.task.result, flower.task.name, flower.task.args)
    request_.end("task-succeeded", result="None", runtime=3.0)

    assert shown == ("PROGRESS", HALF_TEXT, "worker.hash_files", "job 299: 2 files and folders")
    assert (flower.task.state, flower.task.result) == ("SUCCESS", "None")


@pytest.mark.parametrize(
    ("end", "fields", "state"),
    [
        ("task-succeeded", {"result": "None"}, "SUCCESS"),
        ("task-failed", {"exception": "E()"}, "FAILURE"),
        ("task-revoked", {"terminated": True}, "REVOKED"),
        ("task-retried", {"exception": "E()"}, "RETRY"),
        ("task-rejected", {"requeue": True}, "REJECTED"),
    ],
)
def test_no_end_is_hidden_by_progress(
    flower: Flower, request_: Request, progress: ProgressEvents, end: str, fields: dict[str, Any], state: str
) -> None:
    """Celery ranks a state of one's own above some ends; what comes after the end is not sent."""
    progress.show(TASK_ID, HALF)
    until(lambda: flower.results)
    request_.end(end, **fields)
    request_.send_event("task-progress", result="late")

    assert flower.task.state == state
    assert flower.types[-1] == end
    assert len(flower.results) == 1


def test_a_task_that_comes_again_is_shown_anew(
    flower: Flower, request_: Request, progress: ProgressEvents
) -> None:
    """What it was before does not stay."""
    progress.show(TASK_ID, HALF)
    until(lambda: flower.results)
    request_.end("task-rejected", requeue=True)

    worker_state.requests[TASK_ID] = request_
    states = []
    for event in ("task-received", "task-started", "task-progress"):
        request_.send_event(event, result="")
        states.append(flower.task.state)

    assert states == ["RECEIVED", "STARTED", "PROGRESS"]


def test_only_the_newest_progress_counts(flower: Flower, request_: Request, progress: ProgressEvents) -> None:
    """A broker that hangs keeps nobody waiting but the thread, and finds one event when it is back."""
    flower.asked.clear()
    flower.answers.clear()
    progress.show(TASK_ID, PLANNING)
    assert flower.asked.wait(timeout=30)
    for files in range(100):
        progress.show(TASK_ID, Snapshot(files=files))
    progress.show(TASK_ID, HALF)

    assert repr(progress) == "<ProgressEvents 1 to be sent>"
    flower.answers.set()
    until(lambda: len(flower.results) == 2)
    assert flower.results == [progress_text(PLANNING), HALF_TEXT]


def test_a_broker_that_is_away_costs_one_event(
    flower: Flower, request_: Request, progress: ProgressEvents
) -> None:
    """The thread goes on, and the next progress is shown."""
    flower.is_away = True
    progress.show(TASK_ID, PLANNING)
    until(lambda: flower.refusals)

    flower.is_away = False
    progress.show(TASK_ID, HALF)
    until(lambda: flower.results)

    assert (flower.refusals, flower.results) == (1, [HALF_TEXT])


def test_nothing_is_left_of_it(flower: Flower, request_: Request) -> None:
    """Its thread ends with its block, also while nothing was ever shown; what comes later is not sent."""
    with ProgressEvents() as progress:
        pass
    progress.show(TASK_ID, HALF)

    assert not progress._thread.is_alive()
    assert not flower.results


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (Snapshot(), "It is being planned; files so far: 0."),
        (PLANNING, "It is being planned; files so far: 2000."),
        (HALF, HALF_TEXT),
        (
            Snapshot(state=JobState.RUNNING, is_planned=True),
            "0 % done: 0 of 0 files, 0.0 MB/s.",
        ),
    ],
)
def test_progress_is_told_in_a_sentence(snapshot: Snapshot, text: str) -> None:
    """Also where nothing is known yet."""
    assert progress_text(snapshot) == text
