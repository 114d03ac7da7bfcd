"""Slowing down for a storage that asks for it, the whole store at once."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from worker.storage.errors import PermanentStorageError, StorageBusyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.storage.access import StoreLimits

# A storage that asks for more is asked again after so long: its wish may be a mistake, a file's end is none.
_LONGEST_RETRY_AFTER_SECONDS = 300
_MOST_DOUBLINGS = 30

_log = structlog.get_logger()


def pause_seconds(
    limits: StoreLimits, failures: int, *, share: float, asked_for_seconds: float | None = None
) -> float:
    """Decide how long to wait after failures in turn, with full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).

    Args:
        limits: The first and the longest pause.
        failures: How many there were, from 1.
        share: A random number from 0 to 1.
        asked_for_seconds: What the storage's Retry-After says, if anything: no pause is shorter, but none is
            longer than 5 minutes for its sake.
    """
    doublings = min(failures - 1, _MOST_DOUBLINGS)
    longest = min(limits.longest_pause_seconds, limits.first_pause_seconds * 2.0**doublings)
    return max(share * longest, min(asked_for_seconds or 0, _LONGEST_RETRY_AFTER_SECONDS))


@dataclass(slots=True, eq=False)
class Turn:
    """A request's leave to be sent.

    Args:
        wishes_before: How many wishes to slow down had come before.
        is_alone: The others wait until something is heard of it.
    """

    wishes_before: int
    is_alone: bool = False


class Throttle:
    """Lets the requests of one store go: all of them, or slowly while the storage wishes so (429, 503).

    After such a wish nothing is sent for a while, then one request alone. If that one brings another wish,
    the while doubles; at its first byte, or at another answer, all may go again.

    Args:
        name: The storage, for the log.
        limits: Pauses and patience.
    """

    def __init__(self, name: str, limits: StoreLimits) -> None:
        self._name = name
        self._limits = limits
        self._alone = asyncio.Lock()
        self._wishes = 0
        self._wishes_in_turn = 0  # since the storage was last heard of otherwise
        self._resume_at = 0.0
        self._heard_at = 0.0
        self._wished_at = 0.0
        self._began_at: float | None = None  # what the log calls slow: a busy storage may stutter

    def __repr__(self) -> str:
        return f"<Throttle of {self._name}: {self._wishes_in_turn} wishes to slow down in turn>"

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the storage has wished us to slow down for too long, and sent nothing else."""
        return self._wishes_in_turn > 0 and _now() - self._heard_at >= self._limits.patience_seconds

    @asynccontextmanager
    async def turn(self, where: str) -> AsyncIterator[Turn]:
        """Wait until a request may be sent, and learn from how it ends.

        Raises:
            StorageBusyError: Patience is at its end; the next request to be sent may show better.
        """
        turn = await self._next(where)
        try:
            yield turn
        except StorageBusyError as error:
            self._slow_down(turn, error)
            raise
        except PermanentStorageError:  # an answer too
            self.heard(turn)
            raise
        else:
            self.heard(turn)
        finally:
            self._let_others_go(turn)

    def heard(self, turn: Turn) -> None:
        """Take note that a request has brought bytes, or another answer than a wish to slow down."""
        if self._began_at is None:
            return
        self._heard_at = _now()
        if turn.wishes_before < self._wishes:  # sent before the last wish, it tells nothing about now
            return
        self._wishes_in_turn = 0
        self._let_others_go(turn)
        if self._heard_at - self._wished_at >= self._limits.longest_pause_seconds:
            seconds = round(self._heard_at - self._began_at, 1)
            _log.info("The storage answers at full speed again", storage=self._name, after_seconds=seconds)
            self._began_at = None

    async def _next(self, where: str) -> Turn:
        if not self._wishes_in_turn:
            return Turn(self._wishes)
        await self._alone.acquire()
        turn = Turn(self._wishes, is_alone=True)
        try:
            await self._pause(where)
        except BaseException:
            self._let_others_go(turn)
            raise
        if not self._wishes_in_turn:
            self._let_others_go(turn)
        return turn

    async def _pause(self, where: str) -> None:
        while self._wishes_in_turn and (rest_seconds := self._resume_at - _now()) > 0:
            silent_seconds = _now() - self._heard_at
            if self.is_out_of_patience:
                raise StorageBusyError(where, f"for {silent_seconds:.0f} s it has sent nothing else")
            await asyncio.sleep(min(rest_seconds, self._limits.patience_seconds - silent_seconds))

    def _slow_down(self, turn: Turn, error: StorageBusyError) -> None:
        if turn.wishes_before < self._wishes:  # one of many that were under way at the last wish
            return
        now = _now()
        if not self._wishes_in_turn:
            self._heard_at = now
        self._wishes += 1
        self._wishes_in_turn += 1
        self._wished_at = now
        share = random.random()  # noqa: S311 - spreads requests, guards nothing
        rest_seconds = pause_seconds(
            self._limits, self._wishes_in_turn, share=share, asked_for_seconds=error.retry_after_seconds
        )
        self._resume_at = now + rest_seconds
        if self._began_at is None:
            self._began_at = now
            _log.warning(
                "The storage asks to slow down",
                storage=self._name,
                detail=error.detail,
                pause_seconds=round(rest_seconds, 3),
            )

    def _let_others_go(self, turn: Turn) -> None:
        if turn.is_alone:
            turn.is_alone = False
            self._alone.release()


def _now() -> float:
    return asyncio.get_running_loop().time()
