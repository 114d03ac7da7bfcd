"""The Celery application: its names and how messages are delivered. docs/decisions tells why."""

import ssl
import time
from typing import Any

import kombu
from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from kombu.transport import get_transport_cls

from worker.queueing.arguments import shown
from worker.queueing.pulse import Pulse
from worker.queueing.running import RunningTasks

QUEUE = "hashing"
"""The queue of payloads."""
TASK = "worker.hash_files"
"""Runs a payload, its one argument."""
BATCH_QUEUE = "hashing.batches"
"""The queue of the batches of large jobs, which are kept apart so that no small job waits behind them."""
BATCH_TASK = "worker.hash_batch"
"""Runs a batch; its one argument names the job in Redis and the batch: `{"job": "…", "batch": 3}`."""

QUEUED_AT = "queued_at"
"""A header: when a message was put on its queue, in seconds since 1970."""


class _Connection(kombu.Connection):  # type: ignore[misc]  # kombu has no types
    """A connection to Redis by our transport. A URL's scheme would choose kombu's own."""

    def on_failure(self) -> None:
        """Is called each time that it can't be made; a worker's consumer puts its own here."""

    def ensure_connection(self, errback: Any = None, *args: Any, **options: Any) -> Any:
        """Connect, again and again."""

        def on_error(*error: Any) -> None:
            self.on_failure()
            if errback is not None:
                errback(*error)

        return super().ensure_connection(on_error, *args, **options)

    def get_transport_cls(self) -> Any:
        return get_transport_cls("worker.queueing.transport:Transport")


class _Messages(AMQP):  # type: ignore[misc]  # Celery has no types
    Connection = _Connection

    def as_task_v2(self, task_id: str, name: str, args: Any = None, *more: Any, **options: Any) -> Any:
        """Make a task's message, and its task-sent event, which show no key."""
        options |= {"argsrepr": shown(args), "kwargsrepr": "{}"}
        message = super().as_task_v2(task_id, name, args, *more, **options)
        message.headers[QUEUED_AT] = time.time()
        return message


class _Task(Task):  # type: ignore[misc]  # Celery has no types
    Request = "worker.queueing.request:TaskRequest"


def make_app(
    broker_url: str,
    *,
    visibility_timeout_seconds: float = 120.0,
    sweep_seconds: float = 10.0,
    batches_at_once: int | None = None,
) -> Celery:
    """Make the application. Nothing is connected yet.

    `app.running_tasks` is its `RunningTasks`: what runs in this process, and how to stop it. `app.places`
    tells the most messages that a worker works on, of each queue that has a limit. `app.pulse` tells whether
    the worker still works.

    Args:
        broker_url: Valkey or Redis, 6.2 or later, with its password.
        visibility_timeout_seconds: A message that nobody works on is delivered again after so long.
        sweep_seconds: How often each worker looks for such messages.
        batches_at_once: Of a worker's places, those that batches may take at most; None, as for those who
            only put messages on a queue: all of them.
    """
    app = Celery(
        "worker",
        broker=broker_url,
        set_as_current=False,
        amqp=_Messages,
        events="worker.queueing.events:Events",
        task_cls=_Task,
    )
    app.running_tasks = RunningTasks()
    app.pulse = Pulse()
    app.places = {} if batches_at_once is None else {BATCH_QUEUE: batches_at_once}
    app.conf.update(
        task_default_queue=QUEUE,
        # Both are consumed, and the worker waits at the first one.
        task_queues=[kombu.Queue(name, kombu.Exchange(name), name) for name in (QUEUE, BATCH_QUEUE)],
        # Only JSON is read: a pickled message could run any code.
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        # The platform holds the result of a job; a result backend would be one more thing to lose.
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        # Nor more after a lost connection: what ran on still takes its place.
        worker_disable_prefetch=True,
        worker_pool="worker.queueing.pool:TaskPool",
        worker_consumer="worker.queueing.consumer:Consumer",
        # What runs goes on, and its message stays its own; see `QoS.restore_unacked`.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A full or read-only Redis answers with errors for a while; the worker waits as for an absent one.
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": visibility_timeout_seconds,
            "unacked_restore_interval": sweep_seconds,
            "unacked_restore_throttle": 1,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # Only for rediss://, where kombu's own default would trust any certificate.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if broker_url.startswith("rediss:") else None,
        worker_send_task_events=True,
        task_send_sent_event=True,
        # Python's logging is already ours when the worker starts.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    # With a receiver connected, Celery leaves logging alone altogether.
    signals.setup_logging.connect(_keep_logging, weak=False)
    return app


def enqueue(app: Celery, document: dict[str, Any]) -> str:
    """Put a payload on the queue.

    Args:
        app: The application, of `make_app`.
        document: The payload as the platform sent it; it is not checked here.

    Returns:
        The task's id.

    Raises:
        kombu.exceptions.OperationalError: The broker is not there; nothing was put on the queue.
    """
    return str(app.send_task(TASK, args=[document], retry=False).id)


def _keep_logging(**_: Any) -> None:
    """Do nothing: that is what stops Celery from configuring logging."""
