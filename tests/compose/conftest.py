"""A clone of this repository and the images made of it; `make acceptance` runs these tests in order."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose_project import Project, clone, docker

IMAGES = ("hash-worker", "hash-worker-flower", "hash-worker-local")


@pytest.fixture(scope="session")
def tag() -> str:
    """Name the images of this run."""
    return f"acceptance-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def images(tag: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make secrets and images as docker-compose.yml says, and give the clone."""
    if shutil.which("docker") is None or docker("info").returncode or docker("compose", "version").returncode:
        pytest.fail(
            "These tests need Docker and its compose; see what `docker info` and `docker compose` say."
        )
    directory = clone(tmp_path_factory.mktemp("compose") / "clone")
    subprocess.run(["sh", "config/make-secrets.sh", "local"], cwd=directory, check=True, timeout=30)
    said = Project(directory, {"TAG": tag}).compose("build", timeout_seconds=900)
    missing = [name for name in IMAGES if docker("image", "inspect", f"{name}:{tag}").returncode]
    assert not missing, said[-10_000:]
    yield directory
    docker("rmi", *(f"{name}:{tag}" for name in IMAGES))
