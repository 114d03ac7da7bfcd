"""What every job of a worker shares."""

from dataclasses import dataclass

from worker.hashing.algorithms import Algorithm
from worker.hashing.lanes import LanePool
from worker.hashing.registry import resolve
from worker.jobs.file_objects import Stores
from worker.libsafe.payload import Payload
from worker.libsafe.routes import Routes


@dataclass(frozen=True, slots=True)
class JobTools:
    """What every job of a worker shares."""

    stores: Stores
    lanes: LanePool
    routes: Routes
    default_algorithms: tuple[str, ...]
    files_at_once: int
    batch_files: int
    batch_bytes: int
    ranges_in_flight: int
    offline_storage_class_ids: frozenset[str]
    offline_is_error: bool


def algorithms_of(payload: Payload, tools: JobTools) -> tuple[Algorithm, ...]:
    """Give the algorithms that a job asks for, or the worker's default.

    Raises:
        UnknownAlgorithmError: There is one that nobody knows.
        BadAlgorithmError: A package offers one that can't be used.
    """
    return resolve(payload.algorithms or tools.default_algorithms)
