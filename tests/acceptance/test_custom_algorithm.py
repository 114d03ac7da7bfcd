"""The algorithm of examples/custom_algorithm, installed as its README says, judged by zlib."""

import hashlib
import json
import os
import subprocess
import sys
import venv
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.added_algorithms import CRC32, add_package

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_algorithm"
CONTENT = bytes(range(251)) * 5000
ADLER32 = f"{zlib.adler32(CONTENT):08x}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example into a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    pip = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder), str(EXAMPLE)]
    subprocess.run(pip, check=True, timeout=60)
    return folder


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    """Give an environment that has the example installed, and `tmp_path` to install more into."""
    paths = [str(installed), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that fills many slots of the smallest size."""
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


def test_it_is_listed_with_its_package(hash_worker: Any, environment: dict[str, str]) -> None:
    """It stays in one lane, as the table says."""
    done = hash_worker("algorithms", env=environment)

    assert done.returncode == 0, done.stderr
    name, bits, _, resumable, *origin = done.stdout.splitlines()[-1].split()
    assert (name, bits, resumable, origin) == ("adler32", "32", "no", ["hash-worker-adler32", "1.0"])


@pytest.mark.parametrize("slot_bytes", [65536, 4 << 20])
def test_the_command_line_hashes_with_it(
    hash_worker: Any, environment: dict[str, str], file: Path, slot_bytes: int
) -> None:
    """In one slot or in many."""
    environment["HASH_WORKER_HASHING__SLOT_BYTES"] = str(slot_bytes)

    done = hash_worker("hash", "--algorithms", "adler32", "file.bin", env=environment)

    assert (done.stdout, done.stderr, done.returncode) == (f"{ADLER32}  file.bin\n", "", 0)


def test_the_settings_may_name_it(hash_worker: Any, environment: dict[str, str], file: Path) -> None:
    """As the default of all jobs."""
    environment["HASH_WORKER_HASHING__ALGORITHMS"] = '["adler32"]'

    done = hash_worker("hash", "file.bin", env=environment)

    assert done.stdout == f"{ADLER32}  file.bin\n"


def test_a_job_stores_it_by_its_own_name(hash_worker: Any, environment: dict[str, str], file: Path) -> None:
    """From the payload through a real worker to the platform."""
    done = hash_worker("demo", "--json", "--algorithms", "adler32", file, env=environment)

    document = json.loads(done.stdout)
    assert (done.returncode, document["job"]["status"]) == (0, "COMPLETED")
    assert [stored["hashes"] for stored in document["files"]] == [{"adler32": ADLER32}]
    assert f"File hash calculated: ADLER32 - {ADLER32}" in [
        message["text"] for message in document["messages"]
    ]


def test_check_tries_each_added_algorithm_in_a_lane(
    hash_worker: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    """One that can't be used is named, and takes nothing from the others."""
    by_process = (
        CRC32 + "\nclass OfTheProcess(Crc32):\n    def __init__(self): self.value = hash('a') % 2**32\n"
    )
    offers = {"crc32": "sums:Crc32", "broken": "sums:Md6", "of-the-process": "sums:OfTheProcess"}
    add_package(tmp_path, "sums", by_process, **offers)

    done = hash_worker("check", "--json", env=environment)

    findings = {finding["part"]: finding for finding in json.loads(done.stdout)}
    assert findings["algorithm adler32"]["state"] == findings["algorithm crc32"]["state"] == "ok"
    assert findings["algorithm broken"]["state"] == "wrong"
    assert "sums 1.0 can't be loaded (AttributeError" in findings["algorithm broken"]["detail"]
    assert findings["algorithm of-the-process"]["state"] == "wrong"
    assert "sums 1.0: Hashing with of-the-process failed: " in findings["algorithm of-the-process"]["detail"]
    assert findings["lanes"]["state"] == "ok"


@pytest.mark.parametrize("how", ["option", "settings"])
def test_one_that_cannot_be_used_is_told_in_one_sentence(
    hash_worker: Any, environment: dict[str, str], file: Path, tmp_path: Path, how: str
) -> None:
    """Exit status 2 before a byte is read; whoever does not ask for it never hears of it."""
    add_package(tmp_path, "sums", CRC32, broken="sums:Md6")
    options = ["--algorithms", "md5,broken"] if how == "option" else []
    broken = environment | ({"HASH_WORKER_HASHING__ALGORITHMS": '["broken"]'} if how == "settings" else {})

    refused = hash_worker("hash", *options, "file.bin", env=broken)
    others = hash_worker("hash", "--algorithms", "adler32", "file.bin", env=environment)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith(
        "The hash algorithm 'broken' can't be used: sums 1.0 can't be loaded "
        "(AttributeError: module 'sums' has no attribute 'Md6').\n"
    )
    assert refused.stderr.count("\n") == 1
    assert (others.stdout, others.stderr) == (f"{ADLER32}  file.bin\n", "")


def test_what_a_package_prints_does_not_spoil_the_digests(
    hash_worker: Any, environment: dict[str, str], file: Path, tmp_path: Path
) -> None:
    """Standard output is read by programs."""
    noisy = "print('welcome')\n" + CRC32.replace("self.value = 0", "self.value = 0; print('begun')")
    add_package(tmp_path, "sums", noisy, crc32="sums:Crc32")

    done = hash_worker("hash", "--algorithms", "crc32", "file.bin", env=environment)

    assert (done.stdout, done.returncode) == (f"{zlib.crc32(CONTENT):08x}  file.bin\n", 0)
    assert "welcome" in done.stderr


@pytest.mark.parametrize("name", ["sha-256", "--"])
def test_an_added_name_takes_no_list_away_from_ours(
    hash_worker: Any, environment: dict[str, str], file: Path, tmp_path: Path, name: str
) -> None:
    """SHA256SUMS is of SHA-256, whatever is installed."""
    add_package(tmp_path, "sums", CRC32, **{name: "sums:Crc32"})
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  file.bin\n")
    (tmp_path / "my -- SHA3-256SUMS").write_text(f"{hashlib.sha3_256(CONTENT).hexdigest()}  file.bin\n")

    done = hash_worker("hash", "--check", "SHA256SUMS", "my -- SHA3-256SUMS", env=environment)

    assert (done.stdout, done.stderr, done.returncode) == ("file.bin: OK\n" * 2, "", 0)


def test_a_package_that_is_found_through_an_import_hook_works_in_lanes(
    environment: dict[str, str], file: Path, tmp_path: Path
) -> None:
    """So `pip install -e` does it for some packages: a hook in site-packages knows where the sources are."""
    venv.create(tmp_path / "venv")
    (site_packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    add_package(site_packages, "sums", "", crc32="elsewhere:Crc32")
    source = tmp_path / "source.py"
    source.write_text(CRC32, encoding="utf-8")
    (site_packages / "hook.pth").write_text("import hook\n", encoding="utf-8")
    (site_packages / "hook.py").write_text(
        f"""
import importlib.util, sys

class Finder:
    def find_spec(name, path, target=None):
        if name == "elsewhere":
            return importlib.util.spec_from_file_location(name, {str(source)!r})

sys.meta_path.append(Finder)
""",
        encoding="utf-8",
    )
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-m", "worker", "hash", "--algorithms", "crc32", file],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stderr, done.stdout) == ("", f"{zlib.crc32(CONTENT):08x}  {file}\n")
