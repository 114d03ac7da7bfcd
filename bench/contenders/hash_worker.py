"""The hash worker as it is in service: a Celery worker on a broker, and a platform with its jobs API.

Every case is a whole job: the clock runs from the payload's way to the queue to the job's end on the
platform, reports included. The worker is warm: it has run one small job before.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

from bench.cases import WARM_UP, Case
from bench.lines import NoAnswerError, environment
from bench.runs import Run
from bench.stand import Stand
from bench.work import ACCESS_KEY, SECRET_KEY
from worker.hashing.algorithms import ALGORITHMS
from worker.queueing.app import enqueue, make_app

_START_SECONDS = 60
_END_SECONDS = 10
# The platform's answer comes this much after its own patience ends.
_GRACE_SECONDS = 5


@contextmanager
def opened(stand: Stand, case: Case, *, before: Sequence[str] = (), **settings: str) -> Iterator[Run]:
    """Start a worker and let it run one small job, which opens every connection.

    Args:
        stand: What it works with.
        case: What it will be asked to do.
        before: What the worker's command line begins with, such as `taskset`.
        settings: More variables for the worker.
    """
    app = make_app(stand.broker_url)
    warm_up, payload = stand.new_payload(WARM_UP), stand.new_payload(case)

    def run_job(document: Any, seconds: float) -> None:
        enqueue(app, document)
        question = {"wait": document["function_data"]["job"]["id"], "seconds": seconds}
        status = stand.platform.ask(question, seconds + _GRACE_SECONDS)["status"]
        if status in {"PENDING", "RUNNING"}:
            raise NoAnswerError(f"The job was not done within {seconds:.0f} s.")
        if status != "COMPLETED":
            raise RuntimeError(f"The job ended {status}; hash_worker.log in {stand.directory} tells more.")

    with running(stand, "worker", "run", before=before, **settings) as worker:
        run_job(warm_up, _START_SECONDS)
        yield Run(
            worker.pid,
            go=lambda seconds: run_job(payload, seconds),
            digests=lambda: stand.platform.ask({"digests": payload["function_data"]["job"]["id"]}),
        )
        app.close()


@contextmanager
def running(
    stand: Stand, *command: str, before: Sequence[str] = (), **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker while the block runs.

    Args:
        stand: What it works with.
        command: The module that is run and its options.
        before: What the command line begins with.
        settings: More variables.
    """
    with (stand.directory / "hash_worker.log").open("ab") as log:
        worker = subprocess.Popen(  # noqa: S603 - our own program
            [*before, sys.executable, "-m", *command],
            env=environment(**_variables(stand), **settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(_END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def wait_for(app: Celery, workers: int) -> None:
    """Wait until so many workers answer.

    Raises:
        NoAnswerError: They did not within a minute.
    """
    give_up_at = time.monotonic() + _START_SECONDS
    while len(app.control.ping(timeout=1)) < workers:
        if time.monotonic() > give_up_at:
            raise NoAnswerError(f"Not all of {workers} workers answered within {_START_SECONDS} s.")


def _variables(stand: Stand) -> dict[str, str]:
    storage = {
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "endpoint_url": stand.server.endpoint_url,
        "addressing_style": "path",
    }
    return {
        "HASH_WORKER_BROKER__URL": stand.broker_url,
        "HASH_WORKER_API__ALLOWED_HOSTS": json.dumps([urlsplit(stand.api_url).netloc]),
        "HASH_WORKER_API__HASH_NAMES": json.dumps({name: name for name in ALGORITHMS}),
        "HASH_WORKER_STORAGES": json.dumps({"default": storage}),
    }
