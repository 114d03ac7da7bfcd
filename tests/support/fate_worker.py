"""A Celery worker with our own task, whose payloads say what becomes of their messages.

Run as a program, as `tests.support.toy_worker`. A payload has a `name`, `fates`, the last of which stays, and
perhaps `is_away`, and `holds`: then its first run waits until the test lets it end.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from tests.support.toy_worker import DO_NOT_HOLD, TOLD, main
from worker.jobs.progress import Show
from worker.jobs.stopping import Stop
from worker.queueing.dead_letters import DeadLetters
from worker.queueing.fate import Fate, Verdict
from worker.queueing.tasks import register


class _Fates:
    """Gives each message the fate that its payload says; see `worker.queueing.tasks.Handler`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._begun: list[str] = []

    def handle(self, document: dict[str, Any], delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        runs = self._begun.count(document["name"])
        self._begun.append(document["name"])
        with (self._directory / TOLD).open("a") as told:
            told.write(f"begin {document['name']}\n")
        while document.get("holds") and not runs and not (self._directory / DO_NOT_HOLD).exists():
            time.sleep(0.02)
        fates = document["fates"]
        fate = Fate(fates[min(runs, len(fates) - 1)])
        return Verdict(fate, "for a reason.", is_away=document.get("is_away", False))

    def handle_batch(self, document: dict[str, Any], delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        return self.handle(document, delivery_tag, stop, show)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        function(*arguments)


def _register(app: Celery, directory: Path) -> None:
    pause_seconds = float(os.environ.get("PAUSE_SECONDS", "1"))
    letters = DeadLetters(app.conf.broker_url)
    register(app, _Fates(directory), letters, pause_seconds=pause_seconds, show=lambda *_: None)


if __name__ == "__main__":
    sys.exit(main(_register))
