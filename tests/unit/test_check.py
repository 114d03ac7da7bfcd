"""What `check` finds of the broker and of the slots; the rest is in tests/acceptance/test_worker.py."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from werkzeug.serving import make_ssl_devcert

from worker import check
from worker.local.broker import Broker
from worker.queueing.app import make_app
from worker.settings import BrokerSettings, HashingSettings

GiB = 1024**3


@asynccontextmanager
async def closing_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Listen, say a word to each who connects and close; give the place."""

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR\r\n")
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_tls_of_a_broker_with_an_unknown_certificate_is_told(tmp_path: Path) -> None:
    """Who reads that it does not answer would look for the fault elsewhere."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*make_ssl_devcert(str(tmp_path / "tls"), host="localhost"))

    async with closing_server(tls) as place:
        finding = await check._check_broker(f"rediss://{place}/0")

    assert finding.state == "wrong"
    assert finding.detail.startswith(f"The TLS of {place} can't be used: its certificate is not accepted, ")


async def test_a_broker_without_tls_is_told_where_the_url_asks_for_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valkey waits for more of what it takes for a command, so the line can only ask."""
    monkeypatch.setattr(check, "_PATIENCE_SECONDS", 0.1)

    finding = await check._check_broker(broker.url.replace("redis:", "rediss:"))

    assert finding.state == "wrong"
    assert "; does it run, does it speak TLS, is broker.url right?" in finding.detail


async def test_what_answers_without_tls_is_told_where_the_url_asks_for_it() -> None:
    """It is there, and its address is right but for the scheme."""
    async with closing_server() as place:
        finding = await check._check_broker(f"rediss://{place}/0")

    assert finding.detail == f"{place} speaks no TLS; correct broker.url, where rediss:// asks for it."


async def test_a_certificate_of_ours_that_is_away_is_told() -> None:
    """It is read with the first connection."""
    async with closing_server() as place:
        finding = await check._check_broker(
            f"rediss://{place}/0?ssl_certfile=/none.pem&ssl_keyfile=/none.key"
        )

    assert finding.detail == "A file that broker.url names can't be read: No such file or directory."


async def test_a_broker_that_is_away_is_told_with_the_reason() -> None:
    """A name that is none, or a port that nobody listens at."""
    async with closing_server() as place:
        pass

    finding = await check._check_broker(f"redis://{place}/0")

    assert finding.detail.startswith(f"{place} does not answer: ")


async def test_an_acl_user_is_named_in_the_url_with_its_password_apart(broker: Broker, redis: Redis) -> None:
    """Both clients log in as that user: that of `check` and of our records, and Celery's."""
    await redis.execute_command("ACL", "SETUSER", "archive", "on", ">a/b", "~*", "&*", "+@all")  # type: ignore[no-untyped-call]  # redis-py's
    place = urlsplit(broker.url).netloc.rpartition("@")[2]
    settings = BrokerSettings.model_validate({"url": f"redis://archive@{place}/0", "password": "a/b"})

    finding = await check._check_broker(settings.address)
    with make_app(settings.address).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
        users = await redis.client_list()

    assert finding.state == "ok", finding.detail
    assert "archive" in {user["user"] for user in users}


@pytest.mark.parametrize(
    ("limits", "state"),
    [
        ([], "ok"),
        (["max\n"], "ok"),
        ([f"{GiB}\n"], "ok"),
        ([f"{GiB - 1}\n"], "wrong"),
        (["max\n", f"{GiB - 1}\n"], "wrong"),
    ],
)
def test_slots_are_compared_with_the_memory_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: Sequence[str], state: str
) -> None:
    """A worker with more of them is killed as soon as it has filled them."""
    paths = [tmp_path / str(number) for number in range(2)]
    for path, limit in zip(paths, limits, strict=False):
        path.write_text(limit, "ascii")
    monkeypatch.setattr(check, "_MEMORY_LIMITS", tuple(map(str, paths)))

    finding = check._check_slots(HashingSettings(slots=16, slot_bytes=GiB // 16))

    assert (finding.part, finding.state) == ("slots", state)


def test_slots_are_compared_with_the_memory_of_the_machine() -> None:
    """As many as the settings allow take 4 TiB."""
    finding = check._check_slots(HashingSettings(slots=4096, slot_bytes=GiB))

    assert finding.state == "wrong"
    assert finding.detail.startswith("They would take 4,194,304 MiB of ")
