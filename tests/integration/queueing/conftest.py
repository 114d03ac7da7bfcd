"""A real broker with a toy queue."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.toy_queue import ToyQueue
from worker.local.broker import Broker


@pytest_asyncio.fixture
async def queue(tmp_path: Path) -> AsyncIterator[ToyQueue]:
    """Run a broker; whatever a test has started ends with it."""
    broker = Broker(tmp_path / "broker")
    await broker.start()
    toys = ToyQueue(broker.url, tmp_path)
    yield toys
    toys.kill_workers()
    toys.close()
    await broker.stop()
