"""The two tasks: what Celery is told of a message's fate."""

import ssl
from concurrent.futures import CancelledError
from typing import Any

import pytest
from celery.exceptions import Reject, Retry

from worker import metrics
from worker.jobs.ledger import Snapshot
from worker.jobs.progress import Show
from worker.jobs.stopping import Stop
from worker.queueing.app import BATCH_TASK, TASK, enqueue, make_app
from worker.queueing.dead_letters import DeadLetter
from worker.queueing.fate import Fate, Verdict
from worker.queueing.request import LetGo
from worker.queueing.tasks import register

JOB = "hash-worker:job:x"
BATCH = {"job": JOB, "batch": 3}
DOCUMENT = {"api": {"key_user": "a-key-that-nobody-may-see"}, "function_data": {"job": {"id": "299"}}}


class Deliveries:
    """Gives each message the fate that the test wants; of a batch's it gives the payload along."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.documents: list[Any] = []
        self.batches: list[Any] = []

    def handle(self, document: Any, delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Give the fate."""
        self.documents.append(document)
        return self._verdict(show, None)

    def handle_batch(self, document: Any, delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Give the fate."""
        self.batches.append(document)
        return self._verdict(show, DOCUMENT)

    def _verdict(self, show: Show, document: Any) -> Verdict:
        show(Snapshot(files=7))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        if isinstance(self.outcome, Verdict):
            return self.outcome
        return Verdict(self.outcome, "for a reason.", job=JOB, document=document)

    def call(self, function: Any, *arguments: Any) -> None:
        """Call it at once."""
        function(*arguments)


class Letters:
    """Keeps what is put aside."""

    def __init__(self) -> None:
        self.kept: list[DeadLetter] = []
        self.parked: list[DeadLetter] = []

    def keep(self, letter: DeadLetter) -> str:
        """Keep a letter."""
        self.kept.append(letter)
        return "1"

    def park(self, letter: DeadLetter) -> None:
        """Keep a letter of a whole job."""
        self.parked.append(letter)


def counted_as_away() -> float:
    """Read how many tasks ended since their platform was away."""
    return metrics.REGISTRY.get_sample_value("hash_worker_tasks_platform_away_total") or 0


def run_task(outcome: Any, task: str = TASK, document: Any = DOCUMENT) -> tuple[Deliveries, Letters]:
    """Run the task once in this process."""
    app, deliveries, letters = make_app("memory://"), Deliveries(outcome), Letters()
    register(app, deliveries, letters, pause_seconds=15, show=lambda *_: None)  # type: ignore[arg-type]  # it keeps letters as the real ones do
    app.tasks[task](document)
    return deliveries, letters


def test_a_message_whose_job_has_ended_is_acknowledged() -> None:
    """One message, one run, and the task returns."""
    deliveries, letters = run_task(Fate.ACKNOWLEDGED)

    assert (deliveries.documents, deliveries.batches) == ([DOCUMENT], [])
    assert letters.kept == []


def test_the_message_of_a_batch_is_handed_over_as_one() -> None:
    """Each task has its own way to the deliveries."""
    deliveries, letters = run_task(Fate.ACKNOWLEDGED, BATCH_TASK, BATCH)

    assert (deliveries.documents, deliveries.batches) == ([], [BATCH])
    assert letters.parked == []


@pytest.mark.parametrize("is_away", [False, True])
def test_only_a_message_whose_platform_is_away_is_counted_as_such(
    monkeypatch: pytest.MonkeyPatch,
    is_away: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Another worker's job, or one without room, comes again too."""
    monkeypatch.setattr("celery.Task.retry", lambda *_, **__: Retry())
    before = counted_as_away()

    with pytest.raises(Retry):
        run_task(Verdict(Fate.COMES_AGAIN, "for a reason.", JOB, is_away=is_away))

    assert counted_as_away() - before == is_away


def test_progress_is_shown_under_the_tasks_id() -> None:
    """Flower knows tasks, not jobs."""
    shown: list[tuple[str, Snapshot]] = []
    app = make_app("memory://")
    register(
        app,
        Deliveries(Fate.ACKNOWLEDGED),
        Letters(),  # type: ignore[arg-type]  # as above
        pause_seconds=15,
        show=lambda *progress: shown.append(progress),
    )

    app.tasks[BATCH_TASK].apply(args=[BATCH], task_id="a-task")

    assert shown == [("a-task", Snapshot(files=7))]


def test_a_message_that_comes_again_is_sent_anew_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform is away, or another worker has the job."""
    sent: list[dict[str, Any]] = []

    def retry(_: Any, **options: Any) -> Retry:
        sent.append(options)
        return Retry()

    monkeypatch.setattr("celery.Task.retry", retry)

    with pytest.raises(Retry):
        run_task(Fate.COMES_AGAIN)

    assert sent == [{"countdown": 15, "headers": {}, "throw": False}]


@pytest.mark.parametrize("outcome", [Fate.GOES_BACK, CancelledError()])
def test_a_job_that_its_worker_can_not_finish_goes_back_to_the_queue(outcome: Any) -> None:
    """Perhaps it was not even begun; an acknowledged message would be a lost job."""
    with pytest.raises(Reject) as caught:
        run_task(outcome)

    assert caught.value.requeue


def test_a_message_of_a_job_that_another_worker_has_is_left_alone() -> None:
    """To acknowledge or to reject would take what the other one lives on."""
    with pytest.raises(LetGo):
        run_task(Fate.LET_GO)


def test_what_somebody_has_to_look_at_is_kept_with_its_payload() -> None:
    """An operator may send it again."""
    _, letters = run_task(Fate.PUT_ASIDE)

    assert letters.kept == [
        DeadLetter(reason="for a reason.", task=TASK, job_id="299", job=JOB, payload=DOCUMENT)
    ]
    assert "a-key-that-nobody-may-see" not in repr(letters.kept)


def test_a_batch_that_is_put_aside_takes_its_job_along_with_the_jobs_own_payload() -> None:
    """Queued anew it is the payload that goes on the queue, and the job goes on where it stands."""
    _, letters = run_task(Fate.PUT_ASIDE, BATCH_TASK, BATCH)

    assert letters.parked == [
        DeadLetter(reason="for a reason.", task=TASK, job_id="299", job=JOB, payload=DOCUMENT)
    ]
    assert letters.kept == []


def test_the_message_does_not_show_the_payload_to_those_who_watch() -> None:
    """Flower, events and log lines show what the message says of its arguments, and that is no key."""
    app = make_app("memory://")
    sent: list[dict[str, Any]] = []
    app.amqp.send_task_message = lambda *arguments, **_: sent.append(arguments[2].headers)
    enqueue(app, DOCUMENT)

    assert "a-key-that-nobody-may-see" not in str(sent)
    assert sent[0]["argsrepr"] == "job 299: its container"


@pytest.mark.parametrize(
    ("broker_url", "tls"),
    [("rediss://broker/0", {"ssl_cert_reqs": ssl.CERT_REQUIRED}), ("redis://broker/0", None)],
)
def test_the_certificate_of_a_broker_is_verified(broker_url: str, tls: object) -> None:
    """Whoever asks for TLS wants to know whom he gives the payloads to."""
    assert make_app(broker_url).conf.broker_use_ssl == tls
