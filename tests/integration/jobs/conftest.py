"""A job runner put together from settings, against a real jobs API, a real S3 server and real lanes."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from worker.bootstrap.runner import open_deliveries
from worker.jobs.stopping import Stop
from worker.local.platform import LocalPlatform
from worker.local.worker_config import worker_toml
from worker.queueing.broker import open_broker
from worker.queueing.deliveries import Deliveries
from worker.queueing.fate import Verdict
from worker.settings import CONFIG_VARIABLE, Settings, load


@dataclass
class Bench:
    """A platform, and the deliveries of a worker for it."""

    platform: LocalPlatform
    deliveries: Deliveries
    folder: Path

    async def add(self, content: bytes, name: str = "file.bin") -> str:
        """Put a new file on the platform, in a folder of its own there, and give its id."""
        (self.folder / name).write_bytes(content)
        (file_id,) = await self.platform.add_path(self.folder / name, under=str(next(_FOLDERS)))
        return file_id

    async def run(self, **job: Any) -> "Ended":
        """Run a job, made from what `LocalPlatform.new_job` takes, and tell what the platform has then."""
        job_id, payload = self.platform.new_job(**job)
        return self.ended(job_id, await self.handle(payload))

    async def handle(self, document: Any, stop: Stop | None = None) -> Verdict:
        """Have a message handled as the task does, and give its fate."""
        return await self.deliveries.handle(document, "a-delivery-tag", stop or Stop(), lambda _: None)

    def ended(self, job_id: str, verdict: Verdict) -> "Ended":
        """Tell what the platform has of a job."""
        messages = self.platform.messages(job_id)
        return Ended(
            verdict,
            str(self.platform.job(job_id).status),
            [message.message for message in messages],
            [message.file_id for message in messages],
        )


@dataclass(frozen=True)
class Ended:
    """What became of a job's message, and how the job ended on the platform."""

    verdict: Verdict
    status: str
    texts: list[str]
    file_ids: list[str | None]


# All tests of a module share the platform, and no file of another.
_FOLDERS = itertools.count()
OpenBench = Callable[[Settings], AbstractAsyncContextManager[Bench]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPlatform]:
    """Run one platform for all tests of a module."""
    async with LocalPlatform(tmp_path_factory.mktemp("platform") / "data") as running:
        yield running


@pytest.fixture
def settings(platform: LocalPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read settings from a file as a worker does; small slots, so that few bytes fill many."""
    config = tmp_path / "worker.toml"
    sizes = "[hashing]\nlanes = 2\nslots = 4\nslot_bytes = 65536\n[reading]\nattempts = 2\n"
    config.write_text(worker_toml(platform) + sizes, encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_BROKER__SWEEP_SECONDS", "0.1")
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    return load()


@pytest_asyncio.fixture(loop_scope="module")
async def bench(platform: LocalPlatform, settings: Settings, tmp_path: Path) -> AsyncIterator[Bench]:
    """Open a runner with the settings."""
    async with _bench(platform, settings, tmp_path) as opened:
        yield opened


@pytest.fixture
def bench_with(platform: LocalPlatform, tmp_path: Path) -> OpenBench:
    """Open a runner with settings of the test's own."""
    return lambda settings: _bench(platform, settings, tmp_path)


@pytest.fixture
def redis_of() -> Callable[[LocalPlatform], Redis]:
    """Open a platform's broker as the worker does."""
    return lambda platform: open_broker(platform.broker_url)


@asynccontextmanager
async def _bench(platform: LocalPlatform, settings: Settings, folder: Path) -> AsyncIterator[Bench]:
    async with open_deliveries(settings) as deliveries:
        yield Bench(platform, deliveries, folder)
