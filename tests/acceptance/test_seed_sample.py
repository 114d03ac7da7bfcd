"""The function that the platform's own document shows: it runs here, but for its import lines."""

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.file_s3 import serving_files
from worker.local.platform import LocalPlatform

SEED = Path(__file__).parents[3] / "shared/seed/jupyter-notebooks.txt"
SEED_LIKE = Path(__file__).parents[1] / "support/seed_like.py"
OURS = (
    "from worker.notebook import"
    " S3, Container, Driver, File, Job, JobMessage, Nuclio, Request, S3File, Storage, Util, com\n"
)
CONTENTS = {"a.txt": b"abc", "empty": b"", "folder/long.bin": bytes(range(251)) * 70_000}
MiB = 1024 * 1024
GiB = 1024 * MiB


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Give the document's sample; where the document is not at hand, a program that makes the same calls."""
    if not SEED.is_file():
        return SEED_LIKE
    path = tmp_path / "seed.py"
    path.write_text(runnable_sample(SEED.read_text(encoding="utf-8")), encoding="utf-8")
    return path


@pytest.fixture(params=["sample", "seed_like"])
def program(request: pytest.FixtureRequest, sample: Path) -> Path:
    """Give either of them."""
    return sample if request.param == "sample" else SEED_LIKE


def runnable_sample(document: str) -> str:
    """Take the full sample, with our import line for its own ones, and a real payload for its made-up one."""
    sample = document[document.rindex("#!/usr/bin/env python") :].partition("Last updated")[0]
    lines = [line for line in sample.splitlines() if not line.startswith("from libnova")]
    assert len(lines) == len(sample.splitlines()) - 6
    real = "json_sample = json.load(open(__import__('sys').argv[1]))\n"
    made_up = re.compile(r"^json_sample = \{.*?^\}\n", re.DOTALL | re.MULTILINE)
    code, count = made_up.subn(lambda _: real, "\n".join(lines))
    assert count == 1
    return OURS + code + "\n"


async def run(program: Path, payload: dict[str, Any], environment: dict[str, str]) -> int:
    """Run a program over a payload to its end, and give the bytes of memory that it took."""
    path = Path(environment["HASH_WORKER_CONFIG"]).with_name("payload.json")
    path.write_text(json.dumps(payload), encoding="utf-8")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.measured_program", str(program), str(path)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return int(done.stdout)


async def test_the_sample_tells_the_platform_all_it_should(
    program: Path, platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """Its messages, in order, the hashes of each file, and the job's end."""
    for name, content in CONTENTS.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    file_ids = await platform.add_path(tmp_path / "files")
    platform.store.add_metadata(file_ids[0], "c_title", "Größe")
    job_id, payload = platform.new_job()

    await run(program, payload, environment)

    expected = ["Sample message"]
    for file_id, content in zip(file_ids, CONTENTS.values(), strict=True):
        is_first = file_id == file_ids[0]
        expected.append('{\n    "c_title": "Größe"\n}' if is_first else f"File {file_id} has no metadata")
        expected += [
            f"File hash calculated: {name.upper():<6} - {digest}" for name, digest in digests(content).items()
        ]
    assert platform.job(job_id).status == "COMPLETED"
    assert [message.message for message in platform.messages(job_id)] == expected
    assert [platform.hashes(file_id) for file_id in file_ids] == list(map(digests, CONTENTS.values()))


async def test_an_object_larger_than_memory_should_be_takes_no_more_memory(
    sample: Path, platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """Two GiB go through in the memory of a few ranges and the function's own block."""
    bucket = tmp_path / "objects" / "sparse"
    bucket.mkdir(parents=True)
    with (bucket / "large.bin").open("wb") as file:
        file.truncate(2 * GiB)
    with serving_files(bucket.parent) as server:
        storage_id = platform.store.add_storage("sparse", endpoint=server.resource.url)
        container_id = platform.store.add_container("Large files", storage_id)
        file_id = platform.store.add_file(container_id, "/large.bin", size_bytes=2 * GiB)
        job_id = platform.store.add_job(container_id)
        _, payload = platform.new_job(file_ids=[file_id])
        payload["function_data"] |= {"job": {"id": job_id}, "container": {"id": container_id}}
        payload["api"]["key_user"] = payload["api"]["key_root"]  # sees the new container too
        storage = {
            "ACCESS_KEY": "key",
            "SECRET_KEY": "secret",
            "ENDPOINT_URL": server.resource.url,
            "ADDRESSING_STYLE": "path",
        }
        variables = {f"HASH_WORKER_STORAGES__{storage_id}__{name}": text for name, text in storage.items()}

        memory_bytes = await run(sample, payload, environment | variables)

    assert platform.job(job_id).status == "COMPLETED"
    assert platform.hashes(file_id)["md5"] == "a981130cf2b7e09f4686dc273cf7187e"
    assert memory_bytes < 100 * MiB


def digests(content: bytes) -> dict[str, str]:
    """Give the digests that the sample calculates."""
    return {
        name: hashlib.new(name, content, usedforsecurity=False).hexdigest()
        for name in ("md5", "sha1", "sha256")
    }
