"""A clone of this repository and the images made of it; `make acceptance` runs these tests in order."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose_project import Project, clone, docker, make_secrets, project_of

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
    make_secrets(directory, "local").check_returncode()
    said = Project(directory, {"TAG": tag}).compose("build", timeout_seconds=900)
    missing = [name for name in IMAGES if docker("image", "inspect", f"{name}:{tag}").returncode]
    assert not missing, said[-10_000:]
    yield directory
    docker("rmi", *(f"{name}:{tag}" for name in IMAGES))


@pytest.fixture(scope="module")
def project(images: Path, tag: str) -> Iterator[Project]:
    """Give a project of the clone, with nothing running."""
    with project_of(images, {"TAG": tag}) as project:
        yield project
