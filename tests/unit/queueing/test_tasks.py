"""The one task: what happens to a message when its job can't be brought to an end."""

import ssl
from concurrent.futures import CancelledError
from typing import Any

import pytest
import structlog
from celery.exceptions import Reject

from worker.libsafe.errors import NotAuthorizedError, PlatformUnreachableError
from worker.queueing.app import TASK, enqueue, make_app
from worker.queueing.tasks import register

DOCUMENT = {"api": {"key_user": "a-key-that-nobody-may-see"}}


def run_task(outcomes: list[Any]) -> tuple[list[Any], list[Any]]:
    """Run the task in this process, each run with the next outcome; give its calls and the log."""
    calls: list[Any] = []

    def run_job(document: Any) -> Any:
        calls.append(document)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    app = make_app("memory://")
    register(app, run_job)
    with structlog.testing.capture_logs() as log:
        app.tasks[TASK].apply(args=[DOCUMENT]).get()
    return calls, log


def test_the_payload_is_run_once() -> None:
    """One message, one run."""
    calls, log = run_task(["COMPLETED"])

    assert calls == [DOCUMENT]
    assert log == [{"event": "The task is over", "end": "COMPLETED", "log_level": "info"}]


def test_while_the_platform_is_away_the_message_comes_again() -> None:
    """A job is not lost because nobody could be told of it."""
    calls, _ = run_task([PlatformUnreachableError("no answer"), "COMPLETED"])

    assert calls == [DOCUMENT, DOCUMENT]


@pytest.mark.parametrize("error", [NotAuthorizedError("the key was refused")])
def test_what_trying_again_cannot_cure_is_given_up_and_logged(error: Exception) -> None:
    """A refused key stays refused; the log says so without showing it."""
    calls, log = run_task([error])

    assert calls == [DOCUMENT]
    assert log == [{"event": "The job was given up", "reason": "the key was refused", "log_level": "error"}]


def test_a_job_that_its_worker_can_not_finish_goes_back_to_the_queue() -> None:
    """Perhaps it was not even begun; an acknowledged message would be a lost job."""

    def stopped(_: Any) -> None:
        raise CancelledError

    app = make_app("memory://")
    register(app, stopped)

    with pytest.raises(Reject) as caught:
        app.tasks[TASK](DOCUMENT)

    assert caught.value.requeue


def test_the_message_does_not_show_the_payload_to_those_who_watch() -> None:
    """Flower, events and log lines show what the message says of its arguments, and that is no key."""
    app = make_app("memory://")
    sent: list[dict[str, Any]] = []
    app.amqp.send_task_message = lambda *arguments, **_: sent.append(arguments[2].headers)
    enqueue(app, DOCUMENT)

    assert "a-key-that-nobody-may-see" not in str(sent)
    assert sent[0]["argsrepr"] == "(<payload>,)"


@pytest.mark.parametrize(
    ("broker_url", "tls"),
    [("rediss://broker/0", {"ssl_cert_reqs": ssl.CERT_REQUIRED}), ("redis://broker/0", None)],
)
def test_the_certificate_of_a_broker_is_verified(broker_url: str, tls: object) -> None:
    """Whoever asks for TLS wants to know whom he gives the payloads to."""
    assert make_app(broker_url).conf.broker_use_ssl == tls
