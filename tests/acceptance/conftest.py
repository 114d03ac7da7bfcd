"""The command line as a user runs it: a process of its own, and what it leaves behind."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from worker.local.platform import LocalPlatform
from worker.local.worker_config import worker_environment

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hash_worker(tmp_path: Path) -> CommandLine:
    """Run `hash-worker …` to its end."""

    def run(
        *arguments: str | Path, env: dict[str, str] | None = None, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "worker", *map(str, arguments)],
            env=env or dict(os.environ),
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


@pytest_asyncio.fixture
async def platform(tmp_path: Path) -> AsyncIterator[LocalPlatform]:
    """Run a platform of the test's own."""
    async with LocalPlatform(tmp_path / "platform") as running:
        yield running


@pytest.fixture
def environment(platform: LocalPlatform, tmp_path: Path) -> dict[str, str]:
    """Give the variables of a worker that serves the platform."""
    return worker_environment(platform, tmp_path, os.environ)
