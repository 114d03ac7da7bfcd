"""`make bench FILES=1000000`: what a job of so many small files costs the planner and the broker.

The list is real (pages over HTTP, from a server that makes them up), and so are planner, ledger, batches,
outboxes, Celery and its messages, the broker; nothing is read, and reports about files go nowhere (see
`bench.simulated_worker`). It is done with a hundredth, a tenth and all of the files, each on a new broker:

1. one worker plans the job and is ended as soon as it has: its time, its peak memory, the broker's memory;
2. two workers run the batches to the job's end: files/s, commands and CPU seconds of the broker.

It writes build/million.json. A million files take some four minutes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from rich.console import Console

from bench.contenders import hash_worker
from bench.ledger_watch import Look, looks
from bench.stand import BUILD, Stand, made_up_stand
from bench.work import KiB
from worker.queueing.app import enqueue, make_app

_FILE_BYTES = 16 * KiB
_SHARES = (100, 10, 1)
# Ten batches.
_LEAST_FILES = 10_000
_PATIENCE_SECONDS = 1800
_SETTINGS = {
    # Nothing is read: lanes and slots are as few as may be, so that memory is that of planning and running.
    "HASH_WORKER_HASHING__LANES": "1",
    "HASH_WORKER_HASHING__SLOTS": "2",
    "HASH_WORKER_HASHING__SLOT_BYTES": str(64 * KiB),
    # The worker that has planned gives back at once what it has begun since.
    "HASH_WORKER_WORKER__GRACE_SECONDS": "0",
}
# The planning takes the one place that batches have, so that the planner does nothing else.
_PLANNER = {"HASH_WORKER_WORKER__JOBS_AT_ONCE": "2", "HASH_WORKER_WORKER__BATCHES_AT_ONCE": "1"}
_CPU = ("used_cpu_user", "used_cpu_sys", "used_cpu_user_children", "used_cpu_sys_children")

_console = Console()


@dataclass(frozen=True, slots=True)
class Planned:
    """The planning of a job.

    Args:
        seconds: From the job's beginning until all batches are there.
        worker_mb: The worker's peak memory (VmHWM) before it had the job.
        peak_mb: The same when the job was planned.
        broker_bytes_per_file: What the broker's memory grew by, a file.
        broker_mb: What the broker has in memory when all is planned.
    """

    seconds: float
    worker_mb: float
    peak_mb: float
    broker_bytes_per_file: float
    broker_mb: float


@dataclass(frozen=True, slots=True)
class Done:
    """The batches of a job, run to its end.

    Args:
        files_per_s: Between the first settled batch and the last.
        broker_us_per_file: CPU of the broker, in microseconds.
        broker_commands_per_file: With those that scripts call.
        peak_mb: The largest peak memory (VmHWM) of a worker.
        end_seconds: From the last settled batch to the job's end on the platform, in steps of 20 ms.
    """

    files_per_s: float
    broker_us_per_file: float
    broker_commands_per_file: float
    peak_mb: float
    end_seconds: float


def main() -> None:
    """Measure a hundredth, a tenth and all of the files."""
    most = int(os.environ.get("FILES", "1000000"))
    sizes = [most // share for share in _SHARES if most // share >= _LEAST_FILES]
    if not sizes:
        sys.exit(f"FILES is at least {_LEAST_FILES}.")
    measured = {}
    for files in sizes:
        planned, done = _measure(files)
        _console.print(f"{files:,} files", planned, done)
        measured[files] = {"planned": asdict(planned), "done": asdict(done)}
    BUILD.mkdir(exist_ok=True)
    (BUILD / "million.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    _console.print(f"{BUILD}/million.json is written.")


def _measure(files: int) -> tuple[Planned, Done]:
    with made_up_stand() as shared, Redis.from_url(shared.broker_url, decode_responses=True) as client:
        payload = shared.platform.ask({"files": files, "size_bytes": _FILE_BYTES})
        trial = _Trial(shared, client, looks(client, payload, _PATIENCE_SECONDS))
        return trial.plan(payload, files), trial.run()


class _Trial:
    """One job on a new broker."""

    def __init__(self, shared: Stand, client: Redis, seen: Iterator[Look]) -> None:
        self._shared = shared
        self._client = client
        self._seen = seen

    def plan(self, payload: Any, files: int) -> Planned:
        """Have the job planned by a worker that is ended then."""
        app = make_app(self._shared.broker_url)
        with self._worker("planner", **_PLANNER) as worker:
            hash_worker.wait_for(app, 1)
            before_mb, before_bytes = _peak_mb(worker.pid), self._info("memory")["used_memory"]
            enqueue(app, payload)
            look = next(look for look in self._seen if look.is_planned)
            used_bytes = self._info("memory")["used_memory"]
            peak_mb = _peak_mb(worker.pid)
        app.close()
        return Planned(
            seconds=round(look.at_seconds - float(look.fields["started"]), 2),
            worker_mb=before_mb,
            peak_mb=peak_mb,
            broker_bytes_per_file=round((used_bytes - before_bytes) / files, 2),
            broker_mb=round(used_bytes / 1e6, 1),
        )

    def run(self) -> Done:
        """Have the batches run by two workers to the job's end."""
        begin, (seconds, commands) = next(self._seen), self._cost()
        with self._worker("first") as first, self._worker("second") as second:
            start = next(look for look in self._seen if look.number("settled") > begin.number("settled"))
            last = next(look for look in self._seen if look.is_settled)
            used_seconds, used_commands = self._cost()
            over = last if last.is_over else next(look for look in self._seen if look.is_over)
            peak_mb = max(_peak_mb(first.pid), _peak_mb(second.pid))
        if (over.fields["over"], over.number("hashed_files")) != ("COMPLETED", over.number("files")):
            raise SystemExit(f"The job did not end as it should: {over.fields}")
        files = last.number("done_files") - begin.number("done_files")
        measured_files = last.number("done_files") - start.number("done_files")
        return Done(
            files_per_s=round(measured_files / (last.at_seconds - start.at_seconds), 1),
            broker_us_per_file=round((used_seconds - seconds) / files * 1e6, 1),
            broker_commands_per_file=round((used_commands - commands) / files, 2),
            peak_mb=peak_mb,
            end_seconds=round(max(0.0, float(over.fields["over_at"]) - last.at_seconds), 3),
        )

    def _worker(self, name: str, **settings: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        command = ("bench.simulated_worker", "0", "-n", f"{name}@bench")
        return hash_worker.running(self._shared, *command, **_SETTINGS, **settings)

    def _cost(self) -> tuple[float, int]:
        """Give the broker's CPU seconds so far, those for rewriting its file included, and its commands."""
        cpu = self._info("cpu")
        return sum(cpu[name] for name in _CPU), self._info("stats")["total_commands_processed"]

    def _info(self, section: str) -> Any:
        return self._client.info(section)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kilobytes) * 1024 / 1e6, 1)


if __name__ == "__main__":
    main()
