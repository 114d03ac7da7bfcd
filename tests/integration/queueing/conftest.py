"""A real broker with a toy queue."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.toy_queue import ToyQueue
from worker.local.broker import Broker


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Run a broker."""
    running = Broker(tmp_path / "broker")
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def queue(broker: Broker, tmp_path: Path) -> Iterator[ToyQueue]:
    """Give its queue; whatever a test has started ends with it."""
    toys = ToyQueue(broker.url, tmp_path)
    yield toys
    toys.kill_workers()
    toys.close()
