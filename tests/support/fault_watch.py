"""What an operator can see of workers: the events and the answers of remote control, kept as text."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery

_ANSWER_SECONDS = 0.5
_PAUSE_SECONDS = 0.5


class Watch:
    """Everything that was seen, for the search for keys.

    Attributes:
        seen: Events and answers as Python writes them.
    """

    def __init__(self, broker_url: str) -> None:
        self._app = producer(broker_url)
        self._over = threading.Event()
        self.seen: list[str] = []

    def __repr__(self) -> str:
        return f"<Watch: {len(self.seen)} things seen>"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look on while the block runs."""
        threads = [
            threading.Thread(target=self._persistently, args=(look,), name=look.__name__)
            for look in (self._receive_events, self._ask)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _persistently(self, look: Callable[[], None]) -> None:
        while not self._over.is_set():
            # The broker is killed and frozen on purpose; whatever comes of it here is no finding.
            with suppress(Exception):
                look()
            self._over.wait(_PAUSE_SECONDS)

    def _receive_events(self) -> None:
        with self._app.connection_for_read() as connection:

            def note(event: dict[str, Any]) -> None:
                self._note(event)
                # Else it goes on for as long as events come, as those of several workers do for ever.
                receiver.should_stop = self._over.is_set()

            receiver = self._app.events.Receiver(connection, handlers={"*": note})
            while not self._over.is_set():
                with suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=_PAUSE_SECONDS)

    def _ask(self) -> None:
        inspect = self._app.control.inspect(timeout=_ANSWER_SECONDS)
        active = inspect.active() or {}
        self._note(active)
        ids = [task["id"] for tasks in active.values() for task in tasks]
        questions = [inspect.reserved, inspect.scheduled, inspect.stats, inspect.conf, inspect.report]
        for question in questions:
            if self._over.is_set():
                return
            self._note(question())
        if ids:
            self._note(inspect.query_task(*ids))

    def _note(self, what: Any) -> None:
        self.seen.append(repr(what))


def producer(broker_url: str) -> Celery:
    """Make an application that knows nothing of ours but the names: a stranger's, who hides no keys."""
    app = Celery("producer", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue="hashing",
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 2},
    )
    return app
