"""`make bench WORKERS=1`: one job on 1, 2, 4 and 8 workers, hashing so slowly that cores are not the limit.

Each worker has one lane, and each file takes 0.2 s of it without taking a core (see `bench/slow_hashing`); so
5 files a second are what a worker can do, and what it does less is what spreading the job costs. All else is
as in service: a container's list, batches, leases, ledger, objects over HTTP, reports, the end. The digests
are checked. It writes build/workers.json and build/workers.png, and takes about 20 minutes.

Variables: BENCH_ROUNDS=3, BENCH_SCALE=1 (0.2 for a quick look).
"""

import hashlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it has no types
from redis import Redis
from rich.console import Console
from rich.table import Table

from bench import plot
from bench.cases import Case, make_files
from bench.contenders import hash_worker
from bench.ledger_watch import Look, looks
from bench.slow_hashing.xxhash import BYTES_PER_SECOND, DIGEST_BYTES
from bench.stand import BUILD, OBJECTS, Stand, stand
from bench.work import KiB
from worker.queueing.app import enqueue, make_app

_WORKERS = (1, 2, 4, 8)
_FILES = 1000
_FILE_BYTES = 64 * KiB
_ALGORITHM = "xxh3-64"
_PATIENCE_SECONDS = 290
_SETTINGS = {
    "HASH_WORKER_HASHING__LANES": "1",
    # A slot holds a file; the lane always finds the next one there.
    "HASH_WORKER_HASHING__SLOTS": "8",
    "HASH_WORKER_HASHING__SLOT_BYTES": str(_FILE_BYTES),
    # 334 batches for at most 24 places.
    "HASH_WORKER_WORKER__BATCH_FILES": "3",
    "PYTHONPATH": str(Path(__file__).parent / "slow_hashing"),
}

_console = Console()


@dataclass(frozen=True, slots=True)
class Figures:
    """One job on so many workers.

    Args:
        workers: How many.
        files_per_s: Files done between the first and the last settled batch, by the ledger.
        of_lanes: The same as a share of what the lanes can do.
        whole_seconds: From the payload's way to the queue to the job's end on the platform.
        planning_seconds: From the job's beginning until all batches are there; batches run meanwhile.
        busy: How much of the machine's cores was taken meanwhile, by all that ran on it.
    """

    workers: int
    files_per_s: float
    of_lanes: float
    whole_seconds: float
    planning_seconds: float
    busy: float


def main() -> None:
    """Measure all numbers of workers, in rounds, each in an order of its own."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    if rounds < 1 or scale <= 0:
        sys.exit("BENCH_ROUNDS is at least 1, BENCH_SCALE is above 0.")
    case = Case("workers", "", max(40, round(_FILES * scale)), _FILE_BYTES, (_ALGORITHM,), is_job=True)
    make_files(OBJECTS, case)
    measured = []
    with stand() as shared:
        for number in range(rounds):
            order = random.Random(number).sample(_WORKERS, len(_WORKERS))  # noqa: S311 - no secret
            for workers in order:
                measured.append(_measure(shared, case, workers))
                _console.print(measured[-1])
    _console.print(_table(measured))
    text = json.dumps([asdict(figures) for figures in measured], indent=2)
    (BUILD / "workers.json").write_text(text + "\n", encoding="utf-8")
    plot.plot_workers(BUILD / "workers.png", measured)
    _console.print(f"{BUILD}/workers.json and {BUILD}/workers.png are written.")


def _measure(shared: Stand, case: Case, workers: int) -> Figures:
    payload = shared.new_payload(case)
    # A payload that names nothing means its whole container.
    payload["function_data"]["files"]["ids"] = []
    connected = Redis.from_url(shared.broker_url, decode_responses=True)
    with _running(shared, workers) as app, connected as client:
        client.flushall()
        psutil.cpu_percent()  # begins anew
        started_seconds = time.perf_counter()
        enqueue(app, payload)
        seen = list(looks(client, payload, _PATIENCE_SECONDS))
        whole_seconds = time.perf_counter() - started_seconds
        busy = psutil.cpu_percent() / 100
    _check(shared, case, payload)
    return _figures(seen, workers, whole_seconds, busy)


@contextmanager
def _running(shared: Stand, workers: int) -> Iterator[Any]:
    """Start workers and wait until each of them answers; give the application that reaches them."""
    app = make_app(shared.broker_url)
    with ExitStack() as stack:
        for number in range(workers):
            command = ("worker", "run", "-n", f"worker{number}@bench")
            stack.enter_context(hash_worker.running(shared, *command, **_SETTINGS))
        hash_worker.wait_for(app, workers)
        yield app
        app.close()


def _figures(seen: Sequence[Look], workers: int, whole_seconds: float, busy: float) -> Figures:
    first = next(look for look in seen if look.number("settled"))
    last = next(look for look in seen if look.is_settled)
    done = last.number("done_files") - first.number("done_files")
    files_per_s = done / (last.at_seconds - first.at_seconds)
    began_seconds = float(last.fields["started"])
    planned = next(look for look in seen if look.is_planned)
    return Figures(
        workers=workers,
        files_per_s=round(files_per_s, 2),
        of_lanes=round(files_per_s * _FILE_BYTES / BYTES_PER_SECOND / workers, 4),
        whole_seconds=round(whole_seconds, 2),
        planning_seconds=round(planned.at_seconds - began_seconds, 2),
        busy=round(busy, 3),
    )


def _check(shared: Stand, case: Case, payload: Any) -> None:
    """Stop the bench at a file without its digest, or with another one's."""
    digests = shared.platform.ask({"digests": payload["function_data"]["job"]["id"]})
    for key in case.keys:
        content = (OBJECTS / key).read_bytes()
        expected = hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
        if digests.get(key, {}).get(_ALGORITHM) != expected:
            raise SystemExit(f"The digest of {key} is missing or wrong: the bench ends here.")


def _table(measured: Sequence[Figures]) -> Table:
    table = Table(
        "workers", "files/s", "least", "most", "x one worker", "of the lanes", "whole job s", "cores busy"
    )
    alone = None
    for workers in _WORKERS:
        mine = [figures for figures in measured if figures.workers == workers]
        speeds = [figures.files_per_s for figures in mine]
        speed = statistics.median(speeds)
        alone = alone or speed
        table.add_row(
            str(workers),
            f"{speed:.2f}",
            f"{min(speeds):.2f}",
            f"{max(speeds):.2f}",
            f"{speed / alone:.2f}",
            f"{statistics.median(figures.of_lanes for figures in mine):.3f}",
            f"{statistics.median(figures.whole_seconds for figures in mine):.1f}",
            f"{statistics.median(figures.busy for figures in mine):.2f}",
        )
    return table


if __name__ == "__main__":
    main()
