"""Sources put together from settings."""

from collections.abc import AsyncIterator

import pytest_asyncio

from worker.settings import HashingSettings, Settings
from worker.targets.sources import Sources


@pytest_asyncio.fixture
async def sources() -> AsyncIterator[Sources]:
    """Open sources with one lane and small slots."""
    async with Sources(Settings(hashing=HashingSettings(lanes=1, slots=2, slot_bytes=65536))) as opened:
        yield opened
