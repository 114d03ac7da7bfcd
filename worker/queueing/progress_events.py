"""What Flower shows of a running task: the state PROGRESS, and as its result how far the whole job is."""

import threading
from types import TracebackType
from typing import Self

import structlog
from celery.worker import state

from worker.jobs import messages
from worker.jobs.ledger import Snapshot
from worker.queueing.events import PROGRESS

# An event may be on its way to a broker that does not answer.
_LEAVE_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class ProgressEvents:
    """Sends `task-progress` events while its block runs.

    It has a thread of its own, which a broker may keep waiting.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: dict[str, Snapshot] = {}
        self._is_ending = False
        # An event that hangs must not keep the process.
        self._thread = threading.Thread(target=self._send_on, name="progress events", daemon=True)

    def __repr__(self) -> str:
        return f"<ProgressEvents {len(self._newest)} to be sent>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._thread.join(timeout=_LEAVE_SECONDS)

    def show(self, task_id: str, snapshot: Snapshot) -> None:
        """Have a task's progress sent, from any thread and without a wait; of several the newest counts."""
        with self._changed:
            self._newest[task_id] = snapshot
            self._changed.notify()

    def _send_on(self) -> None:
        while newest := self._next():
            for task_id, snapshot in newest.items():
                _send(task_id, snapshot)

    def _next(self) -> dict[str, Snapshot]:
        """Wait for something to be sent; nothing if the block is being left."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._is_ending)
            newest, self._newest = self._newest, {}
            return {} if self._is_ending else newest


def progress_text(snapshot: Snapshot) -> str:
    """Word a job's progress for Flower, as for the platform's users: `45 % done: 450 of 1000 files, …`."""
    if snapshot.share is None:
        return f"It is being planned; files so far: {snapshot.files}."
    return messages.progress_message(
        share=snapshot.share,
        files=snapshot.files,
        done_files=snapshot.done_files,
        megabytes_per_second=snapshot.bytes_per_second / messages.BYTES_PER_MB,
        seconds_left=snapshot.seconds_left,
    )


def _send(task_id: str, snapshot: Snapshot) -> None:
    request = state.requests.get(task_id)
    if request is None:
        return
    try:
        # With its name, since Flower may have begun to look only now.
        request.send_event(PROGRESS, name=request.name, result=progress_text(snapshot))
    except Exception as error:  # noqa: BLE001 - whatever it is, the next one comes in two seconds
        _log.debug("Progress was not shown", task_id=task_id, error=type(error).__name__)
