"""The registry and the choice of algorithms by name."""

import subprocess
import sys

import pytest

from worker.hashing.algorithms import ALGORITHMS, DEFAULT_ALGORITHMS, resolve
from worker.hashing.errors import UnknownAlgorithmError


def test_algorithms_come_in_the_order_asked_for() -> None:
    """A job's messages list its digests as the job named them."""
    assert [algorithm.name for algorithm in resolve(["sha256", "md5", "blake3"])] == [
        "sha256",
        "md5",
        "blake3",
    ]


def test_a_name_given_twice_counts_once() -> None:
    """Nobody pays for the same digest twice."""
    assert [algorithm.name for algorithm in resolve(["md5", "sha1", "md5"])] == ["md5", "sha1"]


def test_unknown_names_are_all_told_with_the_names_that_exist() -> None:
    """Whoever misspelt two names corrects both at once."""
    with pytest.raises(UnknownAlgorithmError) as caught:
        resolve(["md5", "sha-1", "MD5"])

    assert caught.value.names == ("sha-1", "MD5")
    assert caught.value.code == "unknown_algorithm"
    assert all(name in str(caught.value) for name in ["sha-1", "MD5", *ALGORITHMS])


def test_no_name_at_all_is_an_error() -> None:
    """A job that asks for no digest is a mistake, and no reason to read an object."""
    with pytest.raises(ValueError, match="No hash algorithm"):
        resolve([])


def test_the_default_is_in_the_registry() -> None:
    """Who names nothing gets the platform's three and BLAKE3."""
    assert [algorithm.label for algorithm in resolve(DEFAULT_ALGORITHMS)] == [
        "MD5",
        "SHA1",
        "SHA256",
        "BLAKE3",
    ]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_row_stands_under_its_own_name(name: str) -> None:
    """A row is found by the name that it carries, and scheduled by its seconds, more than none."""
    row = ALGORITHMS[name]

    assert row.name == name
    assert row.seconds_per_gb > 0


def test_the_registry_loads_no_hash_library() -> None:
    """A lane, and the command line on a small file, start without waiting for libraries nobody asked for."""
    code = """
import sys
from worker.hashing import algorithms, lane
print(*{"blake3", "xxhash", "awscrt", "asyncio"} & set(sys.modules))
"""

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.split() == []
