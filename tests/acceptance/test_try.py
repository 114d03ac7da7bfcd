"""`hash-worker try`: a job on the platform of `hash-worker local`, handed in at the gateway."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_caller import TOKEN
from tests.support.gateway_process import GatewayProcess
from worker.local.processes import ChildProcess

CONTENT = b"abc"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Run `hash-worker local` with one file, and give its folder."""
    (tmp_path / "file").write_bytes(CONTENT)
    directory = tmp_path / "platform"
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "local", str(tmp_path / "file"), "--directory", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as local:
        assert local.stdout
        while (line := local.stdout.readline()) != "Ctrl-C ends it.\n":
            assert line, local.communicate()[1]
        yield directory
        local.send_signal(signal.SIGINT)


@pytest.fixture
def variables(directory: Path) -> dict[str, str]:
    """Give the variables of a worker and a gateway for that platform."""
    return {**os.environ, "HASH_WORKER_CONFIG": str(directory / "worker.toml")}


@pytest.fixture
async def gateway(variables: dict[str, str], tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """Run a gateway and a worker."""
    gateway = GatewayProcess(variables, tmp_path / "gateway.log")
    worker = ChildProcess(
        [sys.executable, "-m", "worker", "run"], env=variables, log_path=tmp_path / "worker.log"
    )
    await gateway.start()
    await worker.start()
    yield gateway
    await worker.stop()
    await gateway.child.stop()


async def test_each_time_is_a_job_of_its_own_and_ends_completed(
    hash_worker: Any, directory: Path, variables: dict[str, str], gateway: GatewayProcess
) -> None:
    """It prints the digests, and what it was told to calculate; exit status 0."""
    env = variables | {"HASH_WORKER_GATEWAY__TOKEN": TOKEN}
    where = ["--directory", directory, "--gateway", gateway.url]

    shown = hash_worker("try", *where, env=env)
    as_json = hash_worker("try", *where, "--algorithms", "sha512", "--json", env=env)

    result = json.loads(as_json.stdout)
    assert (shown.returncode, as_json.returncode) == (0, 0), shown.stderr + as_json.stderr
    assert f"  sha256    {hashlib.sha256(CONTENT).hexdigest()}\n" in shown.stdout
    assert shown.stdout.endswith("\nJob 2: COMPLETED\n")
    assert result["job"] == {"id": "3", "status": "COMPLETED"}
    assert result["files"][0]["hashes"]["sha512"] == hashlib.sha512(CONTENT).hexdigest()


async def test_a_refusal_of_the_gateway_is_told(
    hash_worker: Any, directory: Path, variables: dict[str, str], gateway: GatewayProcess
) -> None:
    """One sentence with what it said, and no token in it; exit status 1."""
    env = variables | {"HASH_WORKER_GATEWAY__TOKEN": "a token, but not that one"}

    refused = hash_worker("try", "--directory", directory, "--gateway", gateway.url, env=env)

    assert refused.returncode == 1
    assert refused.stderr.startswith("hash-worker: The gateway refused the job (401): ")
    assert len(refused.stderr.splitlines()) == 1
    assert "not that one" not in refused.stderr


def test_a_gateway_that_is_away_is_told(hash_worker: Any, directory: Path, variables: dict[str, str]) -> None:
    """One sentence with its address; exit status 1."""
    where = ["--directory", directory, "--gateway", "http://127.0.0.1:1/"]

    away = hash_worker("try", *where, env=variables)

    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr == (
        "hash-worker: http://127.0.0.1:1 does not answer as the gateway does; is it there?\n"
    )


def test_a_folder_without_a_platform_is_told(hash_worker: Any, tmp_path: Path) -> None:
    """Nothing is made in it; exit status 1."""
    refused = hash_worker("try", "--directory", tmp_path)

    assert refused.returncode == 1
    assert refused.stderr == (
        f"hash-worker: {tmp_path} is not the folder of a platform that `hash-worker local` runs.\n"
    )
    assert list(tmp_path.iterdir()) == []
