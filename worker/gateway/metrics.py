"""What Prometheus is told. Its labels are routes, methods and statuses: nothing of a job."""

from http import HTTPStatus
from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from worker.queueing.app import BATCH_QUEUE, QUEUE
from worker.queueing.intake import Lengths

_METHODS = frozenset({"GET", "POST", "DELETE"})


class Metrics:
    """The gateway's own, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hash_worker_gateway_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        # Told as 0 before the first one, so that it is a rise, which an alert can see.
        for status in (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE):
            self._requests.labels("/v1/jobs", "POST", status.value)
        self._seconds = Histogram(
            "hash_worker_gateway_request_seconds",
            "Time from a request's headers to its answer, in seconds.",
            ["route"],
            registry=self._registry,
        )
        self._broker = Gauge("hash_worker_broker_up", "1 if the broker answers.", registry=self._registry)
        self._messages = Gauge(
            "hash_worker_queue_messages",
            "Messages that wait, without those that workers have taken.",
            ["queue"],
            registry=self._registry,
        )
        self._taken = Gauge(
            "hash_worker_taken_messages",
            "Messages that workers have taken and not acknowledged.",
            registry=self._registry,
        )
        self._undelivered = Gauge(
            "hash_worker_undelivered_ends",
            "Jobs and batches that have ended without their platform knowing.",
            registry=self._registry,
        )
        self._oldest_undelivered_seconds = Gauge(
            "hash_worker_undelivered_oldest_seconds",
            "For how long this gateway has seen the oldest of them there.",
            registry=self._registry,
        )
        self._dead_letters = Gauge(
            "hash_worker_dead_letters", "Dead letters that are kept.", registry=self._registry
        )

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: The template of its path.
            method: As it came; all that no route has are counted as one.
            status: The answer's.
            seconds: How long it took.
        """
        self._requests.labels(route, method if method in _METHODS else "other", status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, lengths: Lengths | None) -> bytes:
        """Give all in Prometheus' text format.

        Args:
            lengths: What waits in the broker; None if it can't be asked, and then these are NaN.
        """
        self._broker.set(lengths is not None)
        for queue in (QUEUE, BATCH_QUEUE):
            self._messages.labels(queue).set(nan if lengths is None else lengths.messages[queue])
        self._taken.set(nan if lengths is None else lengths.taken)
        self._undelivered.set(nan if lengths is None else lengths.undelivered)
        self._oldest_undelivered_seconds.set(nan if lengths is None else lengths.oldest_undelivered_seconds)
        self._dead_letters.set(nan if lengths is None else lengths.dead_letters)
        return generate_latest(self._registry)
