"""What a tree of processes costs: seconds, CPU seconds, and memory with each page counted once."""

import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # it has no types

_SAMPLE_SECONDS = 0.05
# Looking for new children reads all of /proc, so it is done in each tenth sample.
_SAMPLES_PER_LOOK = 10
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_GONE = (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took.

    Args:
        seconds: From go to done.
        cpu_seconds: Of the whole tree, children that have ended included.
    """

    seconds: float
    cpu_seconds: float


def tree(root: psutil.Process) -> list[psutil.Process]:
    """Give a process and all its descendants, the process itself first; nothing if it has ended."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Stopwatch:
    """Measures the block: wall clock, and the CPU of a process with all its descendants.

    A descendant that ended counts if its parent has waited for it, as all parents here do.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def __enter__(self) -> Self:
        self._cpu_seconds = self._used()
        self._started_seconds = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._started_seconds
        if kind is None:
            self.cost = Cost(seconds, self._used() - self._cpu_seconds)

    def _used(self) -> float:
        total = 0.0
        for process in tree(self._root):
            with suppress(*_GONE):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


class MemoryWatch:
    """Samples the memory of a process's tree while the block runs: the sum of Pss, every 50 ms.

    Pss shares a page between the processes that have it, so shared memory counts once in the sum. Reading it
    walks the page tables, 4 ms for 100 MB: too much for a run whose time is taken.

    Args:
        pid: The tree's root.
        with_root: Whether the root itself counts; it does not where it only starts programs.

    Attributes:
        peak_bytes: The largest sum.
    """

    def __init__(self, pid: int, *, with_root: bool) -> None:
        self._root = psutil.Process(pid)
        self._with_root = with_root
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        pids: list[int] = []
        samples = 0
        while not self._ended.wait(_SAMPLE_SECONDS):
            if samples % _SAMPLES_PER_LOOK == 0:
                pids = [process.pid for process in tree(self._root)][0 if self._with_root else 1 :]
            samples += 1
            self.peak_bytes = max(self.peak_bytes, sum(map(_pss_bytes, pids)))


def _pss_bytes(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:  # it has ended
        return 0
    return int(found[1]) * 1024 if found else 0
