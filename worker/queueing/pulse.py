"""Whether a worker still does its work: its event loop turns, and its consumer asks the broker for messages.

Threads may hang while the process lives, and Docker restarts no container that is merely unhealthy. So a
worker that has stopped ends itself: what it had in hand is taken over, and it is started again. So does one
that was told to end and comes to no end: a silent broker holds up each thing that it still does.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from celery import signals
from redis import exceptions as redis_errors
from redis.asyncio import Redis

STOPPED_STATUS = 70
"""Exit status of a worker that has stopped working (EX_SOFTWARE of sysexits.h)."""
CUT_SHORT_STATUS = 1
"""Exit status of a worker whose end took too long."""

# The watchdog counts its looks, not the time: after the whole machine was asleep all others are late too.
_LOOK_SECONDS = 5.0
_MOST_LOOKS = 24
_TURN_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
# An idle worker has an answer from the broker each 0.25 s, a full one is asked each 2 s.
_READY_SECONDS = 30.0
# From the end of the grace time on; most ends take one. Compose kills after 40 s, of which 10 are grace time.
_END_SECONDS = 20.0
# A log that nobody reads any more holds up whoever writes to it.
_LAST_LINE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Pulse:
    """What each part was last heard of; noted from any thread.

    Args:
        end: Ends the process at once, with a status.
    """

    def __init__(self, end: Callable[[int], Any] = os._exit) -> None:
        self._end = end
        self._broker_answers = False
        self._polled = self._turned = False
        self._polled_at: float | None = None
        self._silent_looks = {"consumer": 0, "event loop": 0}
        self._has_queues = True
        self._is_ending = False
        self._ending = threading.Event()

    def __repr__(self) -> str:
        return f"<Pulse, silent looks: {self._silent_looks}>"

    def note_poll(self) -> None:
        """Take note that the consumer has heard from the broker, or that it has no place for a message."""
        self._polled = True
        self._polled_at = monotonic()

    def note_queues(self, *, has_queues: bool) -> None:
        """Take note whether the consumer is to consume from any queue: remote control may have said no."""
        self._has_queues = has_queues

    def note_attempt(self) -> None:
        """Take note that the consumer tries to reach the broker, in vain: it works, the broker does not."""
        self._polled = True

    def note_turn(self, *, broker_answers: bool) -> None:
        """Take note that the event loop turns, and whether the broker has just answered it."""
        self._turned = True
        self._broker_answers = broker_answers

    async def turn(self, redis: Redis) -> None:
        """Note for ever that the event loop turns; to be cancelled.

        Args:
            redis: The broker's, by a client that does not try again.
        """
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await redis.ping()  # type: ignore[misc]  # redis types it for both its clients
            except (redis_errors.RedisError, OSError):
                self.note_turn(broker_answers=False)
            except Exception:  # noqa: BLE001 - who no longer takes note would have a worker ended that is well
                _log.exception("Asking the broker for a sign met an error of the hash worker itself")
                self.note_turn(broker_answers=False)
            else:
                self.note_turn(broker_answers=True)
            await asyncio.sleep(_TURN_SECONDS)

    def end_soon(self, **_: Any) -> None:
        """Expect nothing more but the end, which the worker was told. Twice is fine."""
        if self._is_ending:  # a signal's handler may come while its own thread is below
            return
        self._is_ending = True
        self._ending.set()

    @property
    def silent_seconds(self) -> float:
        """For how long the consumer has heard nothing from the broker; without end before the first time."""
        return float("inf") if self._polled_at is None else monotonic() - self._polled_at

    def why_not_live(self) -> str | None:
        """Say what has stopped, as a sentence, if something has."""
        stopped = [part for part, looks in self._silent_looks.items() if looks > _MOST_LOOKS]
        return f"The worker's {stopped[0]} has stopped." if stopped else None

    def why_not_ready(self) -> str | None:
        """Say why no message is taken now, as a sentence, if none is."""
        if self._is_ending:
            return "The worker is about to end."
        if not self._broker_answers:
            return "The broker does not answer."
        if self.silent_seconds > _READY_SECONDS:
            return "The worker has not asked for messages lately."
        if not self._has_queues:
            return "The worker consumes from no queue: it was told so by remote control."
        return self.why_not_live()

    def watch(self, grace_seconds: float) -> None:
        """Look again and again, in a thread of its own, and end the process when something has stopped.

        Args:
            grace_seconds: Time that tasks have when the worker was told to end; some seconds later it ends
                in any case.
        """
        signals.worker_shutting_down.connect(self.end_soon, weak=False)
        seconds = grace_seconds + _END_SECONDS
        threading.Thread(target=self._watch, args=[seconds], name="watchdog", daemon=True).start()

    def look(self) -> None:
        """Look once; see `watch`."""
        if self._is_ending:
            return
        # A consumer whose broker is away has nothing to hear. A full broker, or one with no connection left,
        # answers a ping all the same: there the consumer's attempts count.
        heard = {"consumer": self._polled or not self._broker_answers, "event loop": self._turned}
        self._polled = self._turned = False
        for part, is_heard in heard.items():
            self._silent_looks[part] = 0 if is_heard else self._silent_looks[part] + 1
        reason = self.why_not_live()
        if reason is not None:
            event = "The worker has stopped working and ends, to be started again"
            self._leave(STOPPED_STATUS, event, reason)

    def _watch(self, end_seconds: float) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            self.look()
        threading.Event().wait(end_seconds)
        reason = f"It was told to end {end_seconds:g} s ago; what it has in hand is taken over."
        self._leave(CUT_SHORT_STATUS, "The worker's end takes too long and is cut short", reason)

    def _leave(self, status: int, event: str, reason: str) -> None:
        """End the process, and say so if that can be said."""
        timer = threading.Timer(_LAST_LINE_SECONDS, self._end, [status])
        timer.daemon = True
        timer.start()
        _log.critical(event, reason=reason)
        timer.cancel()
        self._end(status)
