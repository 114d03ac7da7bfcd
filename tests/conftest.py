"""What tests of all kinds share: a real broker, one for each test process."""

from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from worker.local.broker import Broker
from worker.queueing.broker import open_broker

# A busy machine fails no test.
_ANY_SPEED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("any speed", parent=hypothesis.settings.default, **_ANY_SPEED)
hypothesis.settings.load_profile("any speed")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """Run one valkey for all tests that only keep things in it."""
    broker = Broker(Path(tmp_path_factory.mktemp("broker")))
    await broker.start()
    yield broker
    await broker.stop()


@pytest_asyncio.fixture
async def redis(broker: Broker) -> AsyncIterator[Redis]:
    """Open an empty database, as the worker opens it."""
    async with open_broker(broker.url) as redis:
        await redis.flushdb()
        yield redis
