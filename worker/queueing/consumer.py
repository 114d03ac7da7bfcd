"""What a worker does with a message that is no task of its own: it keeps it as a dead letter.

Celery would throw it away and log its body, which may hold keys.
"""

import warnings
from collections.abc import Callable
from typing import Annotated, Any

import structlog
from celery.exceptions import CPendingDeprecationWarning, InvalidTaskError
from celery.worker import consumer, state
from kombu.exceptions import ContentDisallowed
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.queueing.app import BATCH_TASK, TASK
from worker.queueing.arguments import about, job_id
from worker.queueing.dead_letters import DeadLetter
from worker.queueing.request import AWAY_SINCE, TaskRequest

# How often a worker without a free place says that it is well.
_BEAT_SECONDS = 2
# A reason may quote a name of somebody else's.
_LONGEST_QUOTE = 100

_Limit = Annotated[float, Field(gt=0)]


class _TaskMessage(BaseModel):
    """What Celery reads of a message without looking: in its headers, or in its body before protocol 2."""

    model_config = ConfigDict(strict=True)

    task: str
    id: Annotated[str, Field(min_length=1)]
    shadow: str | None = None
    retries: int = 0
    timelimit: Annotated[list[_Limit | None], Field(min_length=2, max_length=2)] | None = None
    args: list[Any]
    named_args: Annotated[dict[str, Any], Field(alias="kwargs")]
    embed: dict[str, Any] | None = None
    away_since: Annotated[float | None, Field(alias=AWAY_SINCE)] = None

    @property
    def fault(self) -> str | None:
        """What is wrong with its arguments, if it is for a task of ours, as a sentence."""
        document = self.args[0] if len(self.args) == 1 and not self.named_args else None
        if self.task == TASK and not isinstance(document, dict):
            return "Its arguments are not exactly one payload."
        if self.task == BATCH_TASK and not _is_batch(document):
            return "Its arguments are not exactly one batch."
        return None


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer, which no message can end, and which gives no queue more places than it may have."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Give what Celery's loop calls with each message."""
        handle = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            try:
                fields = _TaskMessage.model_validate(_fields(message))
            except Exception as error:  # noqa: BLE001  # whatever it holds, it must not end the worker
                self.on_decode_error(message, error)
                return
            with structlog.contextvars.bound_contextvars(task_id=fields.id, **about(fields.args)):
                if fields.fault:
                    self._keep(message, fields.fault)
                else:
                    handle(message)

        return on_message

    def apply_eta_task(self, task: Any) -> None:
        """Begin a task whose countdown is over, or have its message wait in the queue until there is a place.

        It took none meanwhile.
        """
        if self._has_place(task.message.taken.queue):
            super().apply_eta_task(task)
            return
        task.message.reject(requeue=True)
        self.qos.decrement_eventually()

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Keep a message that can't be read."""
        if isinstance(exc, ContentDisallowed):
            self._keep(message, f"Its content type is {_quoted(message.content_type)}; only JSON is read.")
        elif isinstance(exc, ValidationError):
            where = ".".join(map(str, exc.errors()[0]["loc"]))
            self._keep(message, f"It is no task message: {_quoted(where)} is missing or wrong.")
        else:
            self._keep(message, f"It can't be decoded ({type(exc).__name__}).")

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002  # Celery's signature
        """Keep a message that is no task's."""
        self._keep(message, "It is no task message.")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002  # Celery's signature
        """Keep a message for a task that this worker does not have."""
        self._keep(message, "This worker knows no such task.")

    def on_invalid_task(self, body: Any, message: Any, exc: InvalidTaskError) -> None:  # noqa: ARG002  # Celery's signature
        """Keep a message with a wrong header."""
        self._keep(message, f"It is an invalid task message: {_quoted(str(exc))}.")

    def ensure_connected(self, conn: Any) -> Any:
        """Connect to the broker, however long it takes."""
        conn.on_failure = self.app.pulse.note_attempt
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say that the connection is lost, without asking again what was decided about running tasks."""
        self.app.pulse.note_attempt()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def on_close(self) -> None:
        """Forget what was taken over a lost connection, but not what still runs: it can be terminated."""
        begun = _begun()
        super().on_close()
        for request in begun:
            state.requests[request.id] = request
            state.reserved_requests.add(request)
            if not request.message.is_running:  # no thread has begun it, or its thread has just ended it
                state.task_ready(request)

    def on_ready(self) -> None:
        """Have what has run on send its events over the new connection, and keep its places there."""
        super().on_ready()
        for request in _begun():
            request.eventer = self.event_dispatcher
        channel = self.task_consumer.channel
        channel.has_place = self._has_place
        channel.on_answer = self.app.pulse.note_poll

    def register_with_event_loop(self, hub: Any) -> None:
        """Have a beat in Celery's loop; a lost connection takes it away, the next one brings it back."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(_BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        """Tell that there is nothing to ask the broker for, if so."""
        channel = self.task_consumer.channel
        self.app.pulse.note_queues(has_queues=bool(channel.active_queues))
        if not channel.asks_for_messages:
            self.app.pulse.note_poll()

    def _has_place(self, queue: str) -> bool:
        """Tell whether one more message of a queue may be worked on; see `make_app`."""
        places = self.app.places.get(queue)
        return places is None or sum(request.message.taken.queue == queue for request in _begun()) < places

    def _keep(self, message: Any, reason: str) -> None:
        name = message.headers.get("task")
        letter = DeadLetter(
            reason=reason,
            task=_quoted(name) if isinstance(name, str) else None,
            job_id=_job_id(message),
        )
        message.channel.refuse(message.delivery_tag, letter)


def _begun() -> tuple[TaskRequest, ...]:
    """Give what is in the pool, whichever connection it came by; not what waits for its countdown to end."""
    while True:
        try:
            return tuple(state.reserved_requests)
        except RuntimeError:  # a thread has just ended one; they do so seldom, so the next try succeeds
            continue


def _is_batch(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    job, batch = document.get("job"), document.get("batch")
    # True is no number here.
    return isinstance(job, str) and type(batch) is int and batch >= 0


def _fields(message: Any) -> dict[str, Any]:
    body = message.decode()
    if isinstance(body, list):
        body = dict(zip(("args", "kwargs", "embed"), body, strict=True))
    elif not isinstance(body, dict):
        body = {}
    return {**body, **message.headers} if "task" in message.headers else body


def _job_id(message: Any) -> str | None:
    try:
        return job_id(_fields(message)["args"])
    except Exception:  # noqa: BLE001  # a message that can't be read tells no job
        return None


def _quoted(text: object) -> str:
    return str(text)[:_LONGEST_QUOTE]
