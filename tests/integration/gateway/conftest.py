"""A gateway on a real broker."""

from collections.abc import AsyncIterator

import pytest_asyncio
from redis.asyncio import Redis

from tests.support.gateway_caller import Caller, calling, gateway_settings
from worker.local.broker import Broker


@pytest_asyncio.fixture
async def call(broker: Broker, redis: Redis) -> AsyncIterator[Caller]:
    """Serve on an empty database, and call."""
    async with calling(gateway_settings(broker.url)) as caller:
        yield caller
