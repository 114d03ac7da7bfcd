"""The way to a platform for plain functions, and the one that verbs without a request use."""

import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from worker.libsafe.errors import JobAddress
from worker.notebook.connections import connections
from worker.notebook.errors import NotebookError
from worker.notebook.job import NotebookJob

T = TypeVar("T")

_of_blocks: "list[Driver]" = []
_last: "Driver | None" = None


class Driver:
    """The platform of one payload, under its user's key.

    Args:
        address: Where the job is reported to, and with which key.

    Attributes:
        connections: What it shares with other requests.
        client: The jobs API, to be used in the event loop.
        job: The payload's.

    Raises:
        HostNotAllowedError: The settings do not name the platform's host; no key is sent there.
        SettingsError: The settings can't be used.
    """

    def __init__(self, address: JobAddress) -> None:
        self.connections = connections()
        platforms = self.connections.platforms
        self.client = platforms.client(address)
        settings = self.connections.settings.worker
        self.job = NotebookJob(
            self.client, address, platforms.policy, offline_is_error=settings.offline_is_error
        )

    def __repr__(self) -> str:
        return f"<Driver of {self.client!r}>"

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, such as a call of the client, in the event loop and wait for its end.

        Raises:
            NotebookError: The driver is that of a process from which this one was forked.
        """
        return self.connections.background.wait(work)

    def make_last(self) -> None:
        """Let verbs without a request go to this platform from now on, but in blocks of others."""
        global _last  # noqa: PLW0603 - the verbs of the platform's library name none
        _last = self

    def enter_block(self) -> None:
        """Let verbs without a request go to this platform until the block is left, but in blocks within."""
        _of_blocks.append(self)

    def leave_block(self) -> None:
        """Let them go where they went before the block; twice is fine."""
        with suppress(ValueError):
            _of_blocks.remove(self)

    @staticmethod
    def current() -> "Driver":
        """Give that of the innermost `with Request` block, else of the request that was made or begun last.

        Raises:
            NotebookError: None was made.
        """
        if _of_blocks:
            return _of_blocks[-1]
        if _last is None:
            raise NotebookError("No platform is known yet: make a Request of a payload first.")
        return _last


os.register_at_fork(after_in_child=_of_blocks.clear)  # they are the parent's
