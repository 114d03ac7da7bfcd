"""`make bench BEHIND=1`: how long a job of one 16 KiB file takes behind a job of 200 GB.

The large job is 20,000 files of 10 MB that are waited for instead of read (see `bench.simulated_worker`); at
5 MB/s each, two workers would need 20 minutes for it. When it is planned and takes every place that batches
may take, small jobs are put on the queue one after the other. Then the workers are ended.
"""

import os
import statistics
import sys
import time

from celery import Celery
from redis import Redis
from rich.console import Console

from bench.contenders import hash_worker
from bench.ledger_watch import looks
from bench.stand import Stand, made_up_stand
from bench.work import KiB
from worker.queueing.app import BATCH_QUEUE, enqueue, make_app

_LARGE = {"files": 20_000, "size_bytes": 10_000_000}
_SMALL = {"files": 1, "size_bytes": 16 * KiB}
_MB_PER_SECOND = "5"
_WORKERS = 2
_PATIENCE_SECONDS = 60
_SETTINGS = {"HASH_WORKER_HASHING__LANES": "1", "HASH_WORKER_WORKER__GRACE_SECONDS": "0"}

_console = Console()


def main() -> None:
    """Measure some small jobs alone, and as many behind the large one."""
    jobs = int(os.environ.get("BENCH_JOBS", "20"))
    if jobs < 1:
        sys.exit("BENCH_JOBS is at least 1.")
    with made_up_stand() as shared:
        app = make_app(shared.broker_url)
        first = hash_worker.running(shared, *_command(1), **_SETTINGS)
        second = hash_worker.running(shared, *_command(2), **_SETTINGS)
        with first, second, Redis.from_url(shared.broker_url, decode_responses=True) as client:
            hash_worker.wait_for(app, _WORKERS)
            _show("alone", [_small_job(shared, app) for _ in range(jobs)])
            _begin_large(shared, app, client)
            _show("behind 200 GB", [_small_job(shared, app) for _ in range(jobs)])
            _console.print(f"{client.llen(BATCH_QUEUE)} batches of it are on the queue still.")
        app.close()


def _begin_large(shared: Stand, app: Celery, client: Redis) -> None:
    payload = shared.platform.ask(_LARGE)
    enqueue(app, payload)
    look = next(look for look in looks(client, payload, _PATIENCE_SECONDS) if look.is_planned)
    size_gb = look.number("bytes") / 1e9
    _console.print(f"The large job is planned: {size_gb:g} GB in {look.number('batches')} batches.")


def _small_job(shared: Stand, app: Celery) -> float:
    payload = shared.platform.ask(_SMALL)
    question = {"wait": payload["function_data"]["job"]["id"], "seconds": _PATIENCE_SECONDS}
    started_seconds = time.perf_counter()
    enqueue(app, payload)
    status = shared.platform.ask(question, 2 * _PATIENCE_SECONDS)["status"]
    seconds = time.perf_counter() - started_seconds
    if status != "COMPLETED":
        raise SystemExit(f"The small job is {status} after {seconds:.0f} s.")
    return seconds


def _show(what: str, seconds: list[float]) -> None:
    middle = statistics.median(seconds)
    _console.print(
        f"{what}: {len(seconds)} jobs, median {middle:.3f} s, {min(seconds):.3f} to {max(seconds):.3f}"
    )


def _command(number: int) -> tuple[str, ...]:
    return ("bench.simulated_worker", _MB_PER_SECOND, "-n", f"worker{number}@bench")


if __name__ == "__main__":
    main()
