"""A real broker and real worker processes with toy tasks, as a test handles them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from kombu.utils.json import dumps

from tests.support.toy_worker import DO_NOT_HOLD, TOLD
from worker.queueing.app import BATCH_QUEUE, BATCH_TASK, QUEUE, TASK, enqueue, make_app
from worker.queueing.dead_letters import DeadLetters

# Looking for neighbours would take a second of each test.
_OPTIONS = ("-l", "DEBUG", "--without-mingle")


def until(is_true: Callable[[], Any]) -> Any:
    """Wait for what other processes do, and give it; the test's own time limit bounds it."""
    while not (found := is_true()):
        time.sleep(0.02)
    return found


class ToyQueue:
    """The queue, its workers, and what their tasks have told."""

    def __init__(self, broker_url: str, directory: Path) -> None:
        self.url = broker_url
        self.redis: Any = redis.Redis.from_url(broker_url)
        self.app = make_app(broker_url)
        self.dead = DeadLetters(broker_url)
        self._directory = directory
        self._workers: list[subprocess.Popen[bytes]] = []

    def start_worker(
        self,
        *options: str,
        program: str = "toy_worker",
        grace_seconds: float = 0,
        visibility_timeout_seconds: float = 60,
        batches_at_once: int | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a worker process and wait until it takes messages."""
        name = f"toy{len(self._workers)}@here"
        environment = {
            **os.environ,
            "BROKER_URL": self.url,
            "TOLD_IN": str(self._directory),
            "GRACE_SECONDS": str(grace_seconds),
            "VISIBILITY_TIMEOUT": str(visibility_timeout_seconds),
            **({} if batches_at_once is None else {"BATCHES_AT_ONCE": str(batches_at_once)}),
        }
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"tests.support.{program}", *_OPTIONS, "-n", name, *options],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._workers.append(process)
        until(lambda: " ready." in self.logs() and name in self.logs().rpartition(" ready.")[0][-200:])
        return process

    def kill_workers(self) -> None:
        """End all that still run, at once."""
        for process in self._workers:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Close the test's own connections."""
        self.app.close()
        self.redis.close()

    def end(self, process: "subprocess.Popen[bytes]", *signals: signal.Signals) -> int:
        """Send signals, and give the exit status."""
        for number in signals:
            process.send_signal(number)
        return process.wait(timeout=60)

    def send(self, name: str, does: str = "", **more: Any) -> str:
        """Put a payload on the queue for a toy task, and give the task's id."""
        return enqueue(self.app, {"name": name, "does": does, **more})

    def send_batch(self, name: str, does: str = "", *, countdown_seconds: float | None = None) -> str:
        """Put a batch on its queue for a toy task, and give the task's id."""
        document = {"job": "hash-worker:job:https://go.example.org/job/7", "batch": 1}
        args = [{**document, "name": name, "does": does}]
        return str(
            self.app.send_task(BATCH_TASK, args=args, queue=BATCH_QUEUE, countdown=countdown_seconds).id
        )

    def send_raw(self, message: object, queue: str = QUEUE) -> None:
        """Put a message on the queue as a stranger does; what is not bytes is written as JSON."""
        self.redis.lpush(queue, message if isinstance(message, bytes) else dumps(message))

    def is_answering(self) -> bool:
        """Tell whether a worker answers over a connection that nobody has cut."""
        with self.app.connection_for_write() as connection:
            return bool(self.app.control.ping(timeout=0.3, connection=connection))

    def cut_connections(self) -> None:
        """Close every connection to the broker but this one, at its side."""
        self.redis.client_kill_filter(_type="normal", skipme=True)
        self.redis.client_kill_filter(_type="pubsub", skipme=True)

    def terminate(self, task_id: str) -> None:
        """Terminate a task as an operator does, over a connection that nobody has cut."""
        with self.app.connection_for_write() as connection:
            self.app.control.revoke(task_id, terminate=True, connection=connection)

    def let_end(self) -> None:
        """Have the tasks end that hold."""
        (self._directory / DO_NOT_HOLD).touch()

    def told(self) -> list[str]:
        """Give what the tasks have told."""
        told = self._directory / TOLD
        return told.read_text().splitlines() if told.exists() else []

    def wait_for(self, *lines: str) -> None:
        """Wait until the tasks have told these lines."""
        until(lambda: set(lines) <= set(self.told()))

    def wait_until_acknowledged(self) -> None:
        """Wait until no message is in the queue or taken."""
        until(lambda: not self.redis.exists(QUEUE, BATCH_QUEUE, "unacked", "unacked_index"))

    def messages(self) -> list[bytes]:
        """Give the messages that nobody has taken, the next one last."""
        return list(self.redis.lrange(QUEUE, 0, -1))

    @contextmanager
    def events(self) -> Iterator[list[dict[str, Any]]]:
        """Capture Celery's events while the block runs, as Flower does."""
        captured: list[dict[str, Any]] = []
        with self.app.connection_for_read() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": captured.append})
            thread = threading.Thread(target=receiver.capture)
            thread.start()
            until(lambda: captured)
            try:
                yield captured
            finally:
                receiver.should_stop = True
                thread.join()

    def logs(self) -> str:
        """Give what all workers have logged."""
        return "".join(path.read_text() for path in self._directory.glob("*.log"))


def envelope(body: object, **more: Any) -> dict[str, Any]:
    """Make a message as a stranger does who knows the protocol, and who hides nothing."""
    message = {
        "body": body if isinstance(body, str) else dumps(body),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": TASK, "id": "a-task"},
        "properties": {
            "delivery_tag": "a-tag",
            "body_encoding": "utf-8",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }
    return {**message, **more}
