"""`hash-worker algorithms`: what can be hashed with, and how fast."""

import json
import os
from pathlib import Path
from typing import Any

from tests.support.added_algorithms import CRC32, add_package
from worker.hashing.algorithms import ALGORITHMS


def test_the_table_names_each_algorithm_once(hash_worker: Any) -> None:
    """Name, bits, speed, resumable, origin; in the order of the README."""
    done = hash_worker("algorithms")

    heading, *rows = [line.split() for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert heading == ["name", "bits", "GB/s", "of", "one", "core", "resumable", "from"]
    assert [(name, int(bits)) for name, bits, *_ in rows] == [
        (name, row.digest_bits) for name, row in ALGORITHMS.items()
    ]
    assert {row[3] for row in rows} == {"yes", "no"}
    assert all(float(row[2]) > 0 for row in rows)
    assert {" ".join(row[4:]) for row in rows} == {"built in"}


def test_json_tells_the_same_to_machines(hash_worker: Any) -> None:
    """One list, its speeds as numbers."""
    done = hash_worker("algorithms", "--json")

    (md5, *_) = rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == list(ALGORITHMS)
    assert md5 == {
        "name": "md5",
        "bits": 128,
        "gb_per_second": md5["gb_per_second"],
        "resumable": True,
        "origin": "built in",
    }
    assert 0.01 < md5["gb_per_second"] < 100
    assert {row["name"] for row in rows if not row["resumable"]} >= {"blake3", "xxh3-64"}


def test_what_a_package_prints_does_not_spoil_the_list(hash_worker: Any, tmp_path: Path) -> None:
    """Nor does one that fails only when it is measured."""
    noisy = "print('welcome')\n" + CRC32.replace("self.value = 0", "self.value = 0; print('begun')")
    late = "\n\nclass Late(Crc32):\n    def update(self, data):\n"
    late += "        assert len(data) < 1 << 20, 'too long'\n        super().update(data)\n"
    add_package(tmp_path, "sums", noisy + late, crc32="sums:Crc32", late="sums:Late")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]

    done = hash_worker("algorithms", "--json", env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})

    assert [row["name"] for row in json.loads(done.stdout)] == [*ALGORITHMS, "crc32"]
    told = [line for line in done.stderr.splitlines() if line not in {"welcome", "begun"}]
    assert len(told) == 1
    assert told[0].endswith("(AssertionError: too long).")
    assert done.returncode == 1
    assert "welcome" in done.stderr


def test_a_package_that_cannot_be_used_is_told_and_the_rest_is_listed(
    hash_worker: Any, tmp_path: Path
) -> None:
    """Exit status 1, one sentence on standard error."""
    add_package(tmp_path, "sums", CRC32, crc32="sums:Crc32", broken="sums:Md6", sha1="sums:Crc32")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]

    done = hash_worker("algorithms", "--json", env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})

    *ours, crc32 = json.loads(done.stdout)
    assert done.returncode == 1
    assert [row["name"] for row in ours] == list(ALGORITHMS)
    assert (crc32["name"], crc32["bits"], crc32["resumable"], crc32["origin"]) == (
        "crc32",
        32,
        False,
        "sums 1.0",
    )
    broken, sha1 = sorted(done.stderr.splitlines())
    told = "hash-worker: sums 1.0: The hash algorithm {} can't be used: {}"
    unloadable = "sums 1.0 can't be loaded (AttributeError: module 'sums' has no attribute 'Md6')."
    assert broken == told.format("'broken'", unloadable)
    assert sha1 == told.format("'sha1'", "it is built in; choose another name.")
