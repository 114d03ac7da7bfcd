"""Where the time goes: the CPU seconds of a job by the part that spent them."""

from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]  # it has no types
from rich.console import Console
from rich.table import Table

from bench.cases import Case, cases, make_files
from bench.contenders import hash_worker
from bench.measure import tree
from bench.stand import OBJECTS, Stand

_SECONDS = 300
_CASES = "ABC"


def show_split(console: Console, shared: Stand) -> None:
    """Run some cases once and print each part's share; the cases' files are made if they are missing."""
    for case in cases(1):
        if case.letter in _CASES:
            make_files(OBJECTS, case)
            console.print(_table(shared, case))


def _table(shared: Stand, case: Case) -> Table:
    with hash_worker.opened(shared, case) as run:
        loop, *lanes = tree(psutil.Process(run.pid))
        parts = {
            "worker: loop process": [loop],
            "worker: lanes": lanes,
            "S3 server": tree(psutil.Process(shared.server.pid)),
            "jobs API and broker": tree(psutil.Process(shared.platform.pid)),
        }
        before = {name: _used(processes) for name, processes in parts.items()}
        run.go(_SECONDS)
        after = {name: _used(processes) for name, processes in parts.items()}
    unit, units = ("ms a file", case.objects / 1000) if case.is_job else ("s a GB", case.size_bytes / 1e9)
    table = Table("CPU", "user s", "system s", unit, title=f"{case.letter}: {case.title}")
    for name in parts:
        user, system = (end - start for start, end in zip(before[name], after[name], strict=True))
        table.add_row(name, f"{user:.2f}", f"{system:.2f}", f"{(user + system) / units:.2f}")
    return table


def _used(processes: Iterable[psutil.Process]) -> tuple[float, float]:
    times = [process.cpu_times() for process in processes]
    return sum(time.user for time in times), sum(time.system for time in times)
