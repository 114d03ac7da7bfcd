"""Celery's events, none of which is lost between the threads that send them."""

import threading
from typing import Any

from celery.app import events
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """A dispatcher for several threads.

    Celery's own drops what a task's thread adds while the consumer's publishes, and Flower shows a task that
    is over as running.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # A signal's handler may come while its own thread is in here.
        self._buffering = threading.RLock()
        super().__init__(*args, **options)

    def send(self, *args: Any, **fields: Any) -> None:
        """Send an event, or buffer it."""
        with self._buffering:
            super().send(*args, **fields)

    def flush(self, *args: Any, **options: Any) -> None:
        """Publish what is buffered."""
        with self._buffering:
            super().flush(*args, **options)


class Events(events.Events):  # type: ignore[misc]  # Celery has no types
    """Has our dispatcher made."""

    dispatcher_cls = Dispatcher
