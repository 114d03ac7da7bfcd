"""The stand of the fault suite: a platform on this machine with a proxy before each of its servers."""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import redis.asyncio

from tests.support.fault_broker import BrokerBooks
from tests.support.fault_http import HttpProxy
from tests.support.fault_judge import note_what_is_applied
from tests.support.fault_tcp import Flow, TcpProxy
from worker.local.platform import LocalPlatform

KiB = 1024
MiB = 1024 * KiB
S3_SECRET = "s3-secret-of-the-fault-suite"
ALGORITHMS = ("md5", "sha1", "sha256", "blake3")

# Times that are seconds here and minutes in life; ranges so small that an object of 8 MiB has 32.
_SETTINGS: Mapping[str, object] = {
    "BROKER__VISIBILITY_TIMEOUT_SECONDS": 6,
    "BROKER__SWEEP_SECONDS": 0.5,
    "WORKER__LEASE_SECONDS": 3,
    "WORKER__PAUSE_SECONDS": 1,
    "WORKER__GRACE_SECONDS": 0.5,
    "HASHING__LANES": 2,
    "HASHING__SLOTS": 16,
    "HASHING__SLOT_BYTES": 256 * KiB,
    "READING__STALL_TIMEOUT_SECONDS": 2,
    "READING__CONNECT_TIMEOUT_SECONDS": 2,
    "API__TIMEOUT_SECONDS": 3,
    "LOG__FORMAT": "json",
}

SMALL_BATCHES: Mapping[str, object] = {
    "WORKER__BATCH_FILES": 5,
    "WORKER__BATCH_BYTES": 2 * MiB,
    "WORKER__FILES_AT_ONCE": 2,
    "LIMITS__CONTAINER_BATCHES": 4,
}
"""For workers that spread jobs of a few files: batches of 5 files, 4 of them at a time in all workers."""


class FaultStand:
    """What scenarios share: the platform, and the proxies before its servers.

    Attributes:
        platform: The platform itself.
        faults: How many faults there were, by name.
        api: Before the jobs API.
        s3: Before the S3 server.
        broker: Before the broker; workers take it only where a scenario says so.
        books: What the broker holds of jobs.
    """

    def __init__(self, platform: LocalPlatform, directory: Path) -> None:
        self.platform = platform
        self.directory = directory
        self.faults: Counter[str] = Counter()
        self.api = HttpProxy(platform.api_url, self.faults)
        self.s3 = HttpProxy(platform.s3_endpoint, self.faults)
        self.broker = TcpProxy(urlsplit(platform.broker_url).port or 0, self.faults)
        self.redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(platform.broker_url)
        self.books = BrokerBooks(platform.broker_url)
        self._config = directory / "worker.toml"
        self._config.touch()  # none of the settings that stand in the repository

    def __repr__(self) -> str:
        return f"<FaultStand {self.api!r}, {self.s3!r}, {self.broker!r}>"

    def variables(self, settings: Mapping[str, object], *, broker_port: int | None = None) -> dict[str, str]:
        """Give the environment of a worker.

        Args:
            settings: By the names of their variables, without the prefix; they override the suite's own.
            broker_port: Another one than the broker's own.
        """
        url = self.platform.broker_url
        storage = f"STORAGES__{self.platform.storage_id}__"
        own: dict[str, object] = {
            "CONFIG": self._config,
            "BROKER__URL": url
            if broker_port is None
            else url.replace(f":{urlsplit(url).port}", f":{broker_port}"),
            "API__ALLOWED_HOSTS": json.dumps([urlsplit(self.api.url).netloc]),
            "API__HASH_NAMES": json.dumps({name: name for name in ALGORITHMS}),
            f"{storage}ACCESS_KEY": "fault-suite",
            f"{storage}SECRET_KEY": S3_SECRET,
            f"{storage}ENDPOINT_URL": self.s3.url,
            f"{storage}ADDRESSING_STYLE": "path",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HASH_WORKER_")}
        ours = {**own, **_SETTINGS, **settings}
        return kept | {f"HASH_WORKER_{name}": str(value) for name, value in ours.items()}

    async def kill_broker(self) -> None:
        """Kill the broker, as when its machine loses power; what it has on disk stays."""
        assert self.platform.broker.pid
        self.faults["broker killed"] += 1
        os.kill(self.platform.broker.pid, signal.SIGKILL)
        await self.platform.broker.stop()

    @asynccontextmanager
    async def frozen_broker(self) -> AsyncIterator[None]:
        """Stop the broker in its steps while the block runs: connections stay open and nothing comes."""
        pid = self.platform.broker.pid
        assert pid
        self.faults["broker frozen"] += 1
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def kill_connections(self) -> None:
        """Close all clients' connections at the broker."""
        self.faults["broker connections killed"] += 1
        with suppress(redis.exceptions.ConnectionError):  # ours may be among them
            await self.redis.client_kill_filter(_type="normal")

    async def heal(self) -> None:
        """Make everything whole and empty for the next scenario."""
        for proxy in (self.api, self.s3):
            proxy.heal()
            await proxy.accept()
            proxy.requests.clear()
            proxy.body_bytes.clear()
        self.broker.flow = Flow()
        self.broker.thaw()
        await self.broker.accept()
        if self.platform.broker.pid is None:
            await self.platform.broker.start()
        await self.redis.flushall()


@asynccontextmanager
async def open_stand(directory: Path) -> AsyncIterator[FaultStand]:
    """Run a platform and its proxies while the block runs."""
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(LocalPlatform(directory / "platform"))
        note_what_is_applied(platform.store)
        stand = FaultStand(platform, directory)
        for proxy in (stand.api, stand.s3, stand.broker):
            await stack.enter_async_context(proxy)
        stack.push_async_callback(stand.redis.aclose)
        stack.push_async_callback(stand.books.redis.aclose)
        yield stand
