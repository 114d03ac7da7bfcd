"""Celery's events: none is lost between the threads that send them, and progress never hides a task's end."""

import threading
from typing import Any

from celery import states
from celery.app import events
from celery.events.dispatcher import EventDispatcher
from celery.worker import state

PROGRESS = "task-progress"
"""Tells how far a task's job is. Celery shows it in the state PROGRESS then, as for any type not its own."""

# Celery takes what these tell for older than any state of one's own, and Flower would show PROGRESS for ever,
# unless the event holds its state as a field.
_AFTER_PROGRESS = {"task-revoked": states.REVOKED, "task-rejected": states.REJECTED}


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """A dispatcher for several threads.

    Celery's own drops what a task's thread adds while the consumer's publishes, and Flower shows a task that
    is over as running.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # A signal's handler may come while its own thread is in here.
        self._buffering = threading.RLock()
        super().__init__(*args, **options)

    def send(self, type: str, *args: Any, **fields: Any) -> None:  # noqa: A002  # Celery's signature
        """Send an event, or buffer it. The progress of a task that is over is not sent.

        A request leaves the worker's list before it sends its last event, so that this one is the last.
        """
        with self._buffering:
            if type == PROGRESS and fields["uuid"] not in state.requests:
                return
            if type in _AFTER_PROGRESS:
                fields["state"] = _AFTER_PROGRESS[type]
            super().send(type, *args, **fields)

    def flush(self, *args: Any, **options: Any) -> None:
        """Publish what is buffered."""
        with self._buffering:
            super().flush(*args, **options)


class Events(events.Events):  # type: ignore[misc]  # Celery has no types
    """Has our dispatcher made."""

    dispatcher_cls = Dispatcher
