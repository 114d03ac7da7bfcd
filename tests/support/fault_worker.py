"""A real worker process, and what may happen to it."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from worker.local.processes import ChildProcess


class Worker:
    """One `hash-worker run`.

    Args:
        name: Also its node name and that of its log.
        variables: Its whole environment.
        directory: For its log.
        faults: Where each fault is counted by its name.

    Attributes:
        killed_lanes: How many of its lanes were killed, count.
    """

    def __init__(
        self, name: str, variables: Mapping[str, str], directory: Path, faults: Counter[str]
    ) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self.killed_lanes = 0
        self._faults = faults
        self._descendants: list[int] = []
        self._child = ChildProcess(
            [sys.executable, "-m", "worker", "run", f"--hostname={name}@faults"],
            env=variables,
            log_path=self.log_path,
        )

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self._child!r}>"

    @property
    def pid(self) -> int | None:
        """The main process while it runs."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None before the end."""
        return self._child.exit_status

    @property
    def lanes(self) -> list[int]:
        """Its hashing processes, by what they run."""
        return [pid for pid in self.descendants() if b"worker.hashing.lane" in _read(pid, "cmdline")]

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def descendants(self) -> list[int]:
        """Give the processes that it has started; after its end, those that it had at the last look."""
        if self.pid:
            self._descendants = _descendants(self.pid)
        return self._descendants

    async def start(self) -> None:
        """Start it, and wait until it takes messages."""
        await self._child.start(self._is_ready, timeout_seconds=60)
        self.descendants()

    async def _is_ready(self) -> bool:
        return f"{self.name}@faults ready" in self.log

    def kill(self) -> None:
        """Kill the main process, as the system does that is out of memory; its lanes have to notice."""
        self._signal("worker killed", signal.SIGKILL)

    def kill_lane(self) -> None:
        """Kill the first lane."""
        self._faults["lane killed"] += 1
        self.killed_lanes += 1
        os.kill(self.lanes[0], signal.SIGKILL)

    def freeze(self) -> None:
        """Stop all its processes in their steps, as a machine that is suspended."""
        self._signal("worker frozen", signal.SIGSTOP, *self.descendants())

    def freeze_lane(self) -> None:
        """Stop the first lane in its steps."""
        self._faults["lane frozen"] += 1
        os.kill(self.lanes[0], signal.SIGSTOP)

    def thaw(self) -> None:
        """Let everything that was stopped go on."""
        for pid in (self.pid, *self.descendants()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT) if pid else None

    def ask_to_end(self, number: signal.Signals) -> None:
        """Send SIGTERM or SIGQUIT to the main process."""
        self._signal(f"worker got {number.name}", number)

    async def wait(self) -> int:
        """Wait for its end and give its exit status; negative for a signal."""
        return await self._child.wait()

    async def stop(self) -> None:
        """End it and what is left of it."""
        left = self.descendants()
        await self._child.stop(grace_seconds=0)
        for pid in left:
            if b"worker.hashing.lane" in _read(pid, "cmdline"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _signal(self, name: str, number: signal.Signals, *others: int) -> None:
        assert self.pid, f"{self!r} has ended already; its last lines:\n{self._child.log_tail()}"
        self.descendants()
        self._faults[name] += 1
        for pid in (self.pid, *others):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and not only waits to be reaped."""
    return _read(pid, "stat").rpartition(b") ")[2][:1] not in {b"", b"Z"}


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it ended while we looked
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text("ascii").split()):
                found += [child, *_descendants(child)]
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
