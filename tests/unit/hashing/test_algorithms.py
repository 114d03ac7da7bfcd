"""The rows of our own algorithms."""

import subprocess
import sys

import pytest

from worker.hashing.algorithms import ALGORITHMS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_row_stands_under_its_own_name(name: str) -> None:
    """A row is found by the name that it carries, and scheduled by its seconds, more than none."""
    row = ALGORITHMS[name]

    assert row.name == name
    assert row.seconds_per_gb > 0


def test_a_lane_loads_no_library_before_its_time() -> None:
    """A lane, and the command line on a small file, start without waiting for libraries nobody asked for."""
    code = """
import sys
from worker.hashing import algorithms, lane
print(*{"blake3", "xxhash", "awscrt", "asyncio", "cloudpickle", "importlib.metadata"} & set(sys.modules))
"""

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.split() == []
