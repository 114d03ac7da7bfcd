"""What the application is set to, and what its messages show."""

import pytest
from kombu.exceptions import OperationalError

from worker.queueing.app import BATCH_QUEUE, QUEUE, TASK, make_app

KEY = "a-key-that-nobody-may-see"


def test_a_message_and_its_event_never_show_the_arguments() -> None:
    """Whoever sends it, and whatever they ask to be shown."""
    amqp = make_app("redis://127.0.0.1:1/0").amqp

    message = amqp.create_task_message(
        "an-id", TASK, [{"key": KEY}], {"key": KEY}, create_sent_event=True, argsrepr=KEY, kwargsrepr=KEY
    )

    assert KEY in repr(message.body)
    assert KEY not in repr((message.headers, message.properties, message.sent_event))
    assert message.headers["argsrepr"] == message.sent_event["args"] == "no payload"


def test_only_json_is_read_and_written() -> None:
    """A pickled message could run any code."""
    conf = make_app("redis://127.0.0.1:1/0").conf

    assert conf.accept_content == conf.result_accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}


def test_no_message_is_acknowledged_early_or_hoarded() -> None:
    """It stays in the broker until its task is over, and no worker takes more than it runs."""
    app = make_app("redis://127.0.0.1:1/0", visibility_timeout_seconds=7, sweep_seconds=0.5)

    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_default_queue == QUEUE
    options = app.conf.broker_transport_options
    assert options["visibility_timeout"] == 7
    assert options["unacked_restore_interval"] == 0.5
    assert options["unacked_restore_throttle"] == 1


def test_a_worker_consumes_both_queues_and_waits_at_that_of_payloads() -> None:
    """The first one is where the transport waits; what names no queue is a payload's."""
    app = make_app("redis://127.0.0.1:1/0")

    assert list(app.amqp.queues.consume_from) == [QUEUE, BATCH_QUEUE]
    assert app.amqp.router.route({}, TASK)["queue"].name == QUEUE


@pytest.mark.parametrize(
    ("batches_at_once", "places"), [(None, {}), (0, {BATCH_QUEUE: 0}), (3, {BATCH_QUEUE: 3})]
)
def test_only_batches_have_a_limit(batches_at_once: int | None, places: dict[str, int]) -> None:
    """And only if there is one: who sends messages takes none."""
    assert make_app("redis://127.0.0.1:1/0", batches_at_once=batches_at_once).places == places


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_url_leads_to_our_transport(scheme: str) -> None:
    """The URL that people write would choose kombu's own."""
    connection = make_app(f"{scheme}://:pass%2Fword@127.0.0.1:1/3").connection_for_write()

    assert connection.get_transport_cls().__module__ == "worker.queueing.transport"
    assert (connection.password, connection.virtual_host, bool(connection.ssl)) == (
        "pass/word",
        "3",
        scheme == "rediss",
    )


def test_each_connection_that_can_not_be_made_is_told() -> None:
    """To the connection's owner, and to whoever asked for it."""
    told: list[str] = []
    connection = make_app("redis://127.0.0.1:1/0").connection_for_read()
    connection.on_failure = lambda: told.append("owner")

    with pytest.raises(OperationalError):
        connection.ensure_connection(
            lambda *_: told.append("asker"), max_retries=1, interval_start=0, interval_step=0
        )

    assert told[:2] == ["owner", "asker"]
    assert told.count("owner") == told.count("asker")
