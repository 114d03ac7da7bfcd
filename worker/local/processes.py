"""Child processes: started in a group of their own, awaited until ready, and ended for certain."""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from worker.local.errors import MissingPartError, StartError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 4096


class ChildProcess:
    """One child process, its output in a log file.

    On Linux the kernel kills the child when the thread that started it ends, even by SIGKILL. So start it in
    a thread that lives as long as the child must: as a rule the main one.

    Args:
        args: The program and its arguments; anybody on the machine can read them.
        env: The child's whole environment; None is this process's own.
        log_path: Where standard output and standard error go; the child's lines are added at its end.
        stdin: What the child reads from standard input: the place for a secret. It must fit a pipe (64 KiB).
    """

    def __init__(
        self,
        args: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> None:
        self._args = [str(arg) for arg in args]
        self._env = env
        self._log_path = log_path
        self._stdin = stdin
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"<ChildProcess {Path(self._args[0]).name} {self._state()}>"

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs, else None; also the id of its group."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None before the end."""
        return self._process.returncode if self._process else None

    async def start(
        self, ready: Callable[[], Awaitable[bool]] | None = None, *, timeout_seconds: float = 30
    ) -> None:
        """Start the child and wait until it is ready; a child that fails or is cancelled here is ended.

        Args:
            ready: Tells whether the child can serve; asked every 20 ms. None does not wait.
            timeout_seconds: How long to wait for it.

        Raises:
            MissingPartError: There is no such program.
            StartError: The child ended, or was not ready in time.
        """
        with self._log_path.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._args,
                    env=self._env,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=partial(_die_with_parent, _LIBC, os.getpid()) if _LIBC else None,
                )
            except OSError as error:
                raise MissingPartError(f"{self._args[0]} cannot be run: {error.strerror}.") from error
        try:
            self._feed()
            if ready:
                await self._wait_until(ready, timeout_seconds)
        except BaseException:
            await self.stop(grace_seconds=0)
            raise

    async def wait(self) -> int:
        """Wait for the child's end and return its exit status; negative for a signal."""
        assert self._process is not None, "start it first"
        return await self._process.wait()

    async def stop(self, *, grace_seconds: float = 10) -> None:
        """End the child and whatever is left of its group; a child that has ended, or never began, is fine.

        Args:
            grace_seconds: How long the child may take after SIGTERM before it is killed; 0 kills it at once.
        """
        if self._process is None or self._stopped:
            return
        try:
            if self.pid and grace_seconds:
                self._process.terminate()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), grace_seconds)
        finally:
            # Also when this wait is cancelled; and once, lest the id be another group's by then.
            self._stopped = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def log_tail(self, lines: int = 10) -> str:
        """Return the last lines of the log, at most 4 KiB of it; empty where there is none."""
        try:
            with self._log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _feed(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(self._stdin)
        self._process.stdin.close()

    async def _wait_until(self, ready: Callable[[], Awaitable[bool]], timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.pid and not await ready():  # noqa: ASYNC110 - another process sets no event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise self._not_ready(f"was not ready within {timeout_seconds:g} s") from error
        if not self.pid:
            raise self._not_ready(f"ended with status {self.exit_status}")

    def _not_ready(self, what: str) -> StartError:
        name = Path(self._args[0]).name
        return StartError(f"{name} {what}; the last lines of {self._log_path}:\n{self.log_tail()}")

    def _state(self) -> str:
        if self._process is None:
            return "not started"
        return f"pid {self.pid}" if self.pid else f"ended with status {self.exit_status}"


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now; another program may still take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent(libc: ctypes.CDLL, parent: int) -> None:
    """Ask the kernel, in the child before its program begins, to kill it when its parent ends."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before we asked
        os._exit(1)
