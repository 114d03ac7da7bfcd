"""A Celery worker with our app, pool and consumer, whose tasks tell a file what they do.

Run as a program: what `main` reads in the environment, Celery's options as arguments.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
from celery import Celery, Task
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker
from celery.exceptions import Reject

from worker.jobs.stopping import StopReason
from worker.observability import configure_logging
from worker.queueing.app import BATCH_TASK, TASK, make_app
from worker.queueing.request import LetGo
from worker.queueing.running import stop_after_grace

TOLD = "told"
"""The file: lines as `begin NAME`, `stop NAME REASON`, `end NAME`. No connection that is cut can lose one."""
DO_NOT_HOLD = "open"
"""Tasks that hold end when this file is there."""


def main(register: Callable[[Celery, Path], None]) -> int:
    """Run the worker with the task that `register` registers."""
    url = os.environ["BROKER_URL"]
    configure_logging("DEBUG", "json")
    app = make_app(
        url,
        visibility_timeout_seconds=float(os.environ.get("VISIBILITY_TIMEOUT", "6")),
        sweep_seconds=0.5,
        batches_at_once=int(os.environ["BATCHES_AT_ONCE"]) if "BATCHES_AT_ONCE" in os.environ else None,
    )
    stop_after_grace(app, float(os.environ.get("GRACE_SECONDS", "0")))
    register(app, Path(os.environ["TOLD_IN"]))
    command = celery_worker.make_context(
        "worker", sys.argv[1:], obj=CLIContext(app, no_color=False, workdir=None)
    )
    try:
        with command:
            celery_worker.invoke(command)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _register(app: Celery, directory: Path) -> None:
    def toy(self: Task, document: dict[str, object]) -> None:
        name = document.get("name", document.get("batch"))
        stopped = threading.Event()
        reasons: list[StopReason] = []

        def stop(reason: StopReason) -> None:
            reasons.append(reason)
            stopped.set()

        def tell(what: str) -> None:
            with (directory / TOLD).open("a") as told:
                told.write(f"{what}\n")

        tell(f"begin {name}")
        with app.running_tasks.begin(self.request.id, stop):
            _do(
                self,
                str(document.get("does")),
                lambda: stopped.wait(0.02) or (directory / DO_NOT_HOLD).exists(),
            )
        for reason in reasons:
            tell(f"stop {name} {reason}")
            if reason is StopReason.SHUTDOWN:
                raise Reject("the worker ends", requeue=True)
        tell(f"end {name}")

    for task in (TASK, BATCH_TASK):
        app.task(toy, name=task, bind=True, max_retries=None, shared=False, typing=False)


def _do(task: Task, does: str, may_end: Callable[[], object]) -> None:
    match does:
        case "hold":
            while not may_end():
                pass
        case "stick":
            threading.Event().wait()
        case "break":
            raise RuntimeError("broken")
        case "let go":
            raise LetGo("another has it")
        case "come again" if not task.request.retries:
            raise task.retry(countdown=1)


if __name__ == "__main__":
    sys.exit(main(_register))
