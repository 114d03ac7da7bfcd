"""`make bench SCALING=1`: how the hash worker's throughput and memory go with what it is given.

By size of one object, by number of files in a job (16 KiB each, reports included), by cores, and by objects
under way at once. It writes build/scaling.json and build/scaling.png, and takes some ten minutes.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from rich.console import Console

from bench import plot
from bench.cases import Case, make_files
from bench.contenders import hash_worker
from bench.measure import MemoryWatch, Stopwatch
from bench.split import show_split
from bench.stand import BUILD, OBJECTS, Stand, stand
from bench.work import GiB, KiB, MiB

_SECONDS = 900
_SIZES_BYTES = (64 * MiB, 256 * MiB, GiB, 4 * GiB, 16 * GiB)
_FILES = (100, 1000, 5000, 20000)
_AT_ONCE = (1, 4, 16, 64)
_AT_ONCE_BYTES = 2 * GiB

_console = Console()


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement of a curve.

    Args:
        by: The curve: what varies.
        value: How much of it.
        gb_per_s: Of all objects together.
        files_per_s: None for large objects, of which that says nothing.
        cpu_s_per_gb: Of the worker's whole tree.
        peak_rss_mb: Of the same, from a run of its own.
    """

    by: str
    value: int
    gb_per_s: float
    files_per_s: float | None
    cpu_s_per_gb: float
    peak_rss_mb: float


@dataclass(frozen=True, slots=True)
class _Try:
    by: str
    value: int
    case: Case
    before: Sequence[str] = ()
    settings: tuple[tuple[str, str], ...] = ()


def main() -> None:
    """Measure all curves."""
    tries = tuple(_tries())
    for one in tries:
        make_files(OBJECTS, one.case)
    with stand() as shared:
        _console.print(f"{os.cpu_count()} cores, {shared.server.name}")
        points = [_measure(shared, one) for one in tries]
        show_split(_console, shared)
    text = json.dumps([asdict(point) for point in points], indent=2)
    (BUILD / "scaling.json").write_text(text + "\n", encoding="utf-8")
    plot.plot_scaling(BUILD / "scaling.png", points)
    _console.print(f"{BUILD}/scaling.json and {BUILD}/scaling.png are written.")


def _tries() -> Iterator[_Try]:
    for size_bytes in _SIZES_BYTES:
        yield _Try("object size, MiB", size_bytes // MiB, Case("size", "", 1, size_bytes))
    for files in _FILES:
        yield _Try("files in a job", files, Case("files", "", files, 16 * KiB, is_job=True))
    for objects in _AT_ONCE:
        yield _Try(
            "objects at once",
            objects,
            Case("at once", "", objects, _AT_ONCE_BYTES // objects),
            settings=(("HASH_WORKER_WORKER__FILES_AT_ONCE", str(objects)),),
        )
    if not shutil.which("taskset"):
        _console.print("taskset is not installed: nothing is measured by cores.")
        return
    cores = os.cpu_count() or 1
    for used in sorted({1, cores} | {2**power for power in range(cores.bit_length()) if 2**power <= cores}):
        yield _Try(
            "cores",
            used,
            Case("cores", "", 1, GiB),
            before=("taskset", "--cpu-list", f"0-{used - 1}"),
            settings=(("HASH_WORKER_HASHING__LANES", str(used)),),
        )


def _measure(shared: Stand, one: _Try) -> Point:
    opened = partial(hash_worker.opened, shared, one.case, before=one.before, **dict(one.settings))
    with opened() as run, MemoryWatch(run.pid, with_root=True) as memory:
        run.go(_SECONDS)
    with opened() as run, Stopwatch(run.pid) as watch:
        run.go(_SECONDS)
    size_gb = one.case.size_bytes / 1e9
    point = Point(
        by=one.by,
        value=one.value,
        gb_per_s=round(size_gb / watch.cost.seconds, 4),
        files_per_s=round(one.case.objects / watch.cost.seconds, 1) if one.case.is_job else None,
        cpu_s_per_gb=round(watch.cost.cpu_seconds / size_gb, 3),
        peak_rss_mb=round(memory.peak_bytes / 1e6, 1),
    )
    _console.print(point)
    return point


if __name__ == "__main__":
    main()
