"""A child process that is spoken to in lines of JSON: one answer for each question."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_START_SECONDS = 60
_END_SECONDS = 5


class NoAnswerError(Exception):
    """The child did not answer in time."""


class ChildEndedError(Exception):
    """The child ended; its last lines tell why."""


def environment(**more: str) -> dict[str, str]:
    """Give this process's environment without outward proxies, which can't reach the loopback interface."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | more


class LineProcess:
    """A Python module of ours as a child in a group of its own; a context manager that ends the group.

    Args:
        module: Its name, and arguments.
        log_path: Where its standard error goes.
        env: Its whole environment.
    """

    def __init__(self, *module: str, log_path: Path, env: Mapping[str, str] | None = None) -> None:
        self._name = " ".join(module)
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", *module],
                env=env or environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to_child, self._from_child = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def ask(self, question: object, timeout_seconds: float = _START_SECONDS) -> Any:
        """Send a line and wait for the answer.

        Raises:
            NoAnswerError: There was none in time.
            ChildEndedError: The child is no more.
        """
        with suppress(BrokenPipeError):
            self._to_child.write(json.dumps(question).encode() + b"\n")
            self._to_child.flush()
        # Nothing is left in the reader's buffer: a child never says more than it was asked.
        if not select.select([self._from_child], [], [], timeout_seconds)[0]:
            raise NoAnswerError(f"{self._name} did not answer within {timeout_seconds:.0f} s.")
        line = self._from_child.readline()
        if not line:
            tail = self._log_path.read_text(errors="replace")[-2000:]
            raise ChildEndedError(f"{self._name} ended; the last lines of {self._log_path}:\n{tail}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # The end of its input tells a child to leave.
            self._to_child.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
