"""How fast an algorithm is on this machine, on one core."""

import time
from collections.abc import Callable

from worker.hashing.algorithms import Hasher

_FIRST_BYTES = 1024
_MOST_BYTES = 1024 * 1024


def measure_seconds_per_gb(new: Callable[[], Hasher], budget_seconds: float) -> float:
    """Hash for a while and give the seconds for 1e9 bytes.

    The pieces begin small and double, so that a hasher of 1 MB/s takes about twice the budget, and one of
    10 GB/s is measured over pieces as large as slots have them.

    Args:
        new: makes a hasher; what loading its library takes is not counted.
        budget_seconds: how long to hash.
    """
    # Not zeros: the pages of a fresh zeroed buffer are all one and the same page, which the caches then hold.
    data = memoryview(bytearray(range(256)) * (_MOST_BYTES // 256))
    hasher = new()
    hasher.update(data[:_FIRST_BYTES])
    piece_bytes, hashed_bytes = _FIRST_BYTES, 0
    begin_seconds = time.perf_counter()
    while (passed_seconds := time.perf_counter() - begin_seconds) < budget_seconds:
        hasher.update(data[:piece_bytes])
        hashed_bytes += piece_bytes
        piece_bytes = min(2 * piece_bytes, _MOST_BYTES)
    return passed_seconds / hashed_bytes * 1e9
