"""The Celery application: its names and how messages are delivered. docs/decisions tells why."""

import ssl
from typing import Any

from celery import Celery, signals

QUEUE = "hashing"
TASK = "worker.hash_files"

# What Flower, events and log lines show in the place of a payload, because it carries keys.
ARGUMENTS_SHOWN = "(<payload>,)"

# A message that is not acknowledged within this time is delivered again: Celery's own default.
_VISIBILITY_TIMEOUT_SECONDS = 3600


def make_app(broker_url: str) -> Celery:
    """Make the application. Nothing is connected yet.

    Args:
        broker_url: Valkey or Redis, with its password.
    """
    app = Celery("worker", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        # Only JSON is read: a pickled message could run any code.
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        # The platform holds the result of a job; a result backend would be one more thing to lose.
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT_SECONDS,
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
    result = app.send_task(TASK, args=[document], argsrepr=ARGUMENTS_SHOWN, retry=False)
    return str(result.id)


def _keep_logging(**_: Any) -> None:
    """Do nothing: that is what stops Celery from configuring logging."""
