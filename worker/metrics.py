"""What a worker tells Prometheus. Labels are few and fixed: nothing of a job, a platform or a file.

Whoever does something counts it here. What is only looked at (slots, lanes) is told by `tell`.
docs/operations.md tells what each of these is for.
"""

import time
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# When each series began is one more series for each, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client's
REGISTRY = CollectorRegistry()
# Memory, descriptors, CPU and begin of the worker's own process; its lanes are others.
ProcessCollector(registry=REGISTRY)

JOBS = Counter(
    "hash_worker_jobs",
    "Jobs whose end this worker told the platform, by status; of a job on several workers one tells it.",
    ["result"],
    registry=REGISTRY,
)
TASKS = Counter(
    "hash_worker_tasks", "Tasks that are over, by what became of their message.", ["fate"], registry=REGISTRY
)
TASKS_PLATFORM_AWAY = Counter(
    "hash_worker_tasks_platform_away",
    "Of these, tasks whose message comes again since the platform is away or busy.",
    registry=REGISTRY,
)
TASKS_RUNNING = Gauge("hash_worker_tasks_running", "Tasks that are under way.", registry=REGISTRY)
FILES = Counter("hash_worker_files", "Files that are done.", ["result"], registry=REGISTRY)
FILE_BYTES = Counter(
    "hash_worker_file_bytes", "Bytes of the files that are done.", ["result"], registry=REGISTRY
)
READ_BYTES = Counter(
    "hash_worker_read_bytes", "Bytes that were read from storages, as they came.", registry=REGISTRY
)
REPORTS = Counter(
    "hash_worker_reports", "Reports that the platform has answered.", ["result"], registry=REGISTRY
)
TAKE_OVERS = Counter(
    "hash_worker_lease_take_overs",
    "Jobs and batches that this worker has taken over from a run that did not end.",
    registry=REGISTRY,
)
LEASES_LOST = Counter(
    "hash_worker_leases_lost", "Leases that this worker has lost while it worked.", registry=REGISTRY
)
STAGE_SECONDS = Histogram(
    "hash_worker_stage_seconds",
    "Time in seconds: a payload in the queue; a job's planning; a file's reading, and its hashing after the "
    "last byte; the reports of a file until the platform has them.",
    ["stage"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600),
    registry=REGISTRY,
)

# Those that never came are told as 0: the first failure is a rise then, which an alert can see.
for _metric, _labels in (
    (JOBS, ("COMPLETED", "FAILED")),
    (FILES, ("hashed", "not_hashed", "passed_over")),
    (FILE_BYTES, ("hashed", "not_hashed", "passed_over")),
    (REPORTS, ("accepted", "refused")),
    (STAGE_SECONDS, ("queue", "plan", "read", "hash", "report")),
):
    for _label in _labels:
        _metric.labels(_label)


class Backlog(Collector):
    """Reports that the platform does not have yet: how many, and how old the oldest is.

    Everything in it is noted by one thread; it may be looked at by any.
    """

    def __init__(self) -> None:
        self._entries: dict[object, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Backlog of {len(self._entries)} entries>"

    def enter(self, entry: object, reports: int, since: float) -> None:
        """Take note of an entry, any object, with so many reports, put at `since` of `time.monotonic`."""
        self._entries[entry] = reports, since

    def leave(self, entry: object) -> None:
        """Forget an entry; one that is not known is passed over."""
        self._entries.pop(entry, None)

    def collect(self) -> Iterable[Metric]:
        """Give the two gauges; both are 0 where nothing waits."""
        entries = [*self._entries.values()]
        oldest_seconds = time.monotonic() - min(since for _, since in entries) if entries else 0.0
        yield GaugeMetricFamily(
            "hash_worker_outbox_reports",
            "Reports of this worker's tasks that the platform does not have yet.",
            sum(reports for reports, _ in entries),
        )
        yield GaugeMetricFamily(
            "hash_worker_outbox_oldest_seconds", "Age of the oldest of them.", oldest_seconds
        )


OUTBOX = Backlog()
REGISTRY.register(OUTBOX)


def tell(name: str, what: str, value: Callable[[], float], *, is_counter: bool = False) -> None:
    """Tell a value that is asked for at each look.

    Args:
        name: Of the metric; told again under the same name, the newest counts.
        what: One sentence.
        value: Gives it; from any thread.
        is_counter: It never falls.
    """
    _TOLD[name] = what, value, is_counter


class _Told(Collector):
    def collect(self) -> Iterable[Metric]:
        for name, (what, value, is_counter) in list(_TOLD.items()):
            metric = Metric(name, what, "counter" if is_counter else "gauge")
            metric.add_sample(f"{name}_total" if is_counter else name, {}, value())
            yield metric


_TOLD: dict[str, tuple[str, Callable[[], float], bool]] = {}
REGISTRY.register(_Told())


def text() -> bytes:
    """Give all in Prometheus' text format."""
    return generate_latest(REGISTRY)
