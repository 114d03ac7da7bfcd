"""The breaker: keeps calls away from a platform that answers nothing but errors, until it is back."""

import asyncio
import random
from contextlib import suppress

import structlog

from worker.libsafe.errors import PlatformUnreachableError

_log = structlog.get_logger(__name__)


class Breaker:
    """One platform's breaker, shared by all who call it.

    It opens after so many failures without one success between them. While it is open one call after each
    pause is let through to see. The others wait for that; they go on as soon as a call succeeds.

    Args:
        most_failures: Failures in a row that open it.
        pause_seconds: The longest pause between two calls while it is open; half of it is random, so that
            workers do not knock together.
    """

    def __init__(self, *, most_failures: int = 5, pause_seconds: float = 10.0) -> None:
        self._most_failures = most_failures
        self._pause_seconds = pause_seconds
        self._failures = 0
        self._knock_at = 0.0
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.is_open else 'closed'}, {self._failures} failures in a row>"

    @property
    def is_open(self) -> bool:
        """Whether the platform has answered nothing but errors lately."""
        return self._failures >= self._most_failures

    async def admit(self) -> None:
        """Wait until a call may be made, one pause at most; to be told afterwards how it went.

        Raises:
            PlatformUnreachableError: It is still away, and another call has been let through to see.
        """
        if not self.is_open:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._knock_at):
                await self._closed.wait()
        if not self.is_open:
            return
        if asyncio.get_running_loop().time() < self._knock_at:
            raise PlatformUnreachableError(
                "The platform has answered nothing but errors lately; check that it runs."
            )
        self._wait_anew()

    def succeeded(self) -> None:
        """Take note of an answer, also of one that says no."""
        if self.is_open:
            _log.info("The platform is back")
        self._failures = 0
        self._closed.set()

    def failed(self) -> None:
        """Take note that no answer came, or that the platform could not do it now."""
        self._failures += 1
        if self._failures == self._most_failures:
            _log.warning("The platform is away", failures=self._failures)
            self._closed.clear()
            self._wait_anew()

    def _wait_anew(self) -> None:
        pause_seconds = self._pause_seconds * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret
        self._knock_at = asyncio.get_running_loop().time() + pause_seconds
