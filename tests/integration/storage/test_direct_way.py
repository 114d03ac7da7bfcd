"""The direct way against a server that answers byte by byte as a test says, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
import pytest_asyncio
from pydantic import SecretStr
from structlog.testing import capture_logs

from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.errors import AccessDeniedError, NoSuchObjectError, StorageError, WrongAnswerError
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CONTENT = bytes(byte % 251 for byte in range(5_000))
ETAG = '"pinned"'
ADDRESS = ObjectAddress("bucket", "folder/key")
VERSION = ObjectVersion(ADDRESS, ETAG, len(CONTENT))
SECRET = "hush-secret"
LIMITS = StoreLimits(max_connections=4, attempts=1, connect_timeout_seconds=5, stall_timeout_seconds=5)
RIGHT = (
    b'HTTP/1.1 206 Partial Content\r\nETag: "pinned"\r\n'
    b"Content-Range: bytes 0-4999/5000\r\nContent-Length: 5000\r\n\r\n" + CONTENT
)


@dataclass
class Request:
    """The head of one request, and the connection it came by."""

    target: str
    headers: dict[str, str]
    connection: int

    @property
    def is_direct(self) -> bool:
        """Whether it came the direct way."""
        return self.headers["user-agent"] == "libsafe-hash-worker"


@dataclass
class RawServer:
    """Answers each request with the next bytes in line, or rightly; None closes the connection instead."""

    answers: deque[bytes | None] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    is_closing_behind_answers: bool = False
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        number = self.connections
        self.writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                self.requests.append(Request(first.split(" ")[1], headers, number))
                sent = self.answers.popleft() if self.answers else RIGHT
                if sent is None:
                    break
                writer.write(sent)
                await writer.drain()
                if self.is_closing_behind_answers:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RawServer]:
    """Run the server on a free port."""
    raw = RawServer()
    listening = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.port = listening.sockets[0].getsockname()[1]
    yield raw
    listening.close()
    for writer in raw.writers:
        writer.close()
    await listening.wait_closed()


def access_to(endpoint_url: str, **more: Any) -> StoreAccess:
    """Make an access."""
    options: dict[str, Any] = {"addressing_style": "path", **more}
    return StoreAccess(
        endpoint_url=endpoint_url,
        region="us-east-1",
        access_key="AKIATESTKEY",
        secret_key=SecretStr(SECRET),
        **options,
    )


@pytest_asyncio.fixture
async def store(server: RawServer) -> AsyncIterator[ObjectStore]:
    """Open a store that has learned where the bucket is."""
    async with ObjectStore(access_to(server.url), LIMITS) as store:
        await read(store)
        assert not server.requests[0].is_direct
        server.requests.clear()
        yield store


async def read(store: ObjectStore, version: ObjectVersion = VERSION) -> bytes:
    """Read the object, which is one range."""
    destination = bytearray(version.size_bytes)
    await store.read_range(version, 0, memoryview(destination))
    return bytes(destination)


def refused(code: str, head: bytes, body: Callable[[bytes], bytes] = bytes) -> bytes:
    """Make a refusal with this framing."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
    return b"HTTP/1.1 403 Forbidden\r\n" + head % len(text) + b"\r\n\r\n" + body(text)


def endless(text: bytes) -> bytes:
    """Fill a text up to 100,000 bytes."""
    return text.ljust(100_000)


def in_chunks(text: bytes) -> bytes:
    """Send a body in two chunks."""
    return b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (text[:5], len(text) - 5, text[5:])


def endless_in_chunks(text: bytes) -> bytes:
    """The same in chunks."""
    return in_chunks(endless(text))


async def test_one_connection_is_kept_for_one_request_after_the_other(
    server: RawServer, store: ObjectStore
) -> None:
    """Only the first range of a bucket went by the library."""
    for _ in range(5):
        assert await read(store) == CONTENT

    assert [request.is_direct for request in server.requests] == [True] * 5
    assert len({request.connection for request in server.requests}) == 1


KEYS = ["plain", "two words", "a+b", "100%", "%2F", "ünï/😀", "a/../b", "//x", "new\nline", "a?b=c#d~"]


async def test_a_request_is_signed_for_exactly_what_it_asks(server: RawServer, store: ObjectStore) -> None:
    """Both ways send the same request, and its signature is the one that S3 calculates from it."""
    named = [ObjectAddress("bucket", key, version_id) for key in KEYS for version_id in (None, "v&=/ +1")]
    async with ObjectStore(access_to(server.url), LIMITS, is_direct=False) as library:
        for address in named:
            await read(library, ObjectVersion(address, ETAG, len(CONTENT)))
            await read(store, ObjectVersion(address, ETAG, len(CONTENT)))

    by_library, direct = server.requests[::2], server.requests[1::2]
    assert [request.is_direct for request in server.requests] == [False, True] * len(named)
    assert [request.target for request in direct] == [request.target for request in by_library]
    paths = [unquote(urlsplit(request.target).path) for request in direct]
    assert paths == [f"/bucket/{address.key}" for address in named]
    for request in server.requests:
        assert request.headers["authorization"].endswith(f"Signature={signature_of(request)}")


def signature_of(request: Request) -> str:
    """Calculate a signature from what came over the wire, as AWS describes it.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    given = dict(re.findall(r"(\w+)=([^, ]+)", request.headers["authorization"]))
    _, day, region, service, _ = given["Credential"].split("/")
    names = given["SignedHeaders"].split(";")
    path, _, query = request.target.partition("?")
    pairs = sorted(
        (quote(k, safe="~"), quote(v, safe="~")) for k, v in parse_qsl(query, strict_parsing=bool(query))
    )
    canonical = "\n".join(
        [
            "GET",
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{request.headers[name]}" for name in names),
            "",
            ";".join(names),
            request.headers["x-amz-content-sha256"],
        ]
    )
    signed = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            f"{day}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, service, "aws4_request", signed):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


@pytest.mark.parametrize(
    "head",
    [
        b"\0\1\2\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5000\r\nContent-Length: 4999\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nETag: " + b"x" * 40_000 + b"\r\n\r\n",
        b"x" * 40_000,
        b"HTTP/1.1 206 OK\r\n" + b"a: b\r\n" * 10_000,
        RIGHT.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
)
async def test_a_head_that_is_none_or_too_long_is_a_wrong_answer_at_once(
    server: RawServer, store: ObjectStore, head: bytes
) -> None:
    """It does not wait for an end that may never come, and the connection is not used again."""
    server.answers.append(head)

    with pytest.raises(WrongAnswerError, match="s3://bucket/folder/key"):
        await read(store)

    assert await read(store) == CONTENT
    assert server.requests[0].connection != server.requests[1].connection


async def test_a_kept_connection_that_the_server_closes_instead_of_an_answer_costs_no_attempt(
    server: RawServer, store: ObjectStore
) -> None:
    """Servers close what idles, perhaps just when the next request is on its way."""
    assert await read(store) == CONTENT
    server.answers.append(None)

    assert await read(store) == CONTENT
    assert [request.connection for request in server.requests] == [2, 2, 3]


async def test_a_fresh_connection_that_the_server_closes_is_a_failure(
    server: RawServer, store: ObjectStore
) -> None:
    """Otherwise a server that is down would be asked for ever."""
    server.answers.extend([None, None])

    with pytest.raises(StorageError, match="s3://bucket/folder/key"):
        await read(store)

    assert len(server.requests) == 1


async def test_a_connection_closed_while_it_idles_is_not_used(server: RawServer, store: ObjectStore) -> None:
    """The next request goes by a fresh one."""
    server.is_closing_behind_answers = True
    for _ in range(3):
        assert await read(store) == CONTENT

    assert len({request.connection for request in server.requests}) == 3


async def test_a_connection_that_idled_too_long_is_not_used(server: RawServer, store: ObjectStore) -> None:
    """What lies between may have forgotten it, and a request would stall."""
    assert await read(store) == CONTENT
    assert store._direct is not None
    (connection,) = store._direct._pool._idle
    connection.idle_since -= 13
    assert await read(store) == CONTENT

    assert server.requests[0].connection != server.requests[1].connection


@pytest.mark.parametrize(
    "sent",
    [
        RIGHT + b"!",
        RIGHT + RIGHT,
        RIGHT.replace(b"ETag", b"Connection: close\r\nETag"),
        RIGHT.replace(b"HTTP/1.1", b"HTTP/1.0"),
        RIGHT.replace(b"Content-Length: 5000", b"Transfer-Encoding: chunked").replace(
            CONTENT, in_chunks(CONTENT) + b"!"
        ),
    ],
)
async def test_a_connection_is_used_again_only_behind_the_exact_end_of_a_body(
    server: RawServer, store: ObjectStore, sent: bytes
) -> None:
    """What else lies in it would be taken for the next answer."""
    server.answers.append(sent)

    assert await read(store) == CONTENT
    assert await read(store) == CONTENT
    assert server.requests[0].connection != server.requests[1].connection


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        (refused("NoSuchKey", b"Content-Length: %d"), True),
        (refused("NoSuchKey", b"Transfer-Encoding: chunked\r\nx: %d", in_chunks), True),
        (refused("NoSuchKey", b"Content-Length: 100000\r\nx: %d", endless), False),
        (refused("NoSuchKey", b"Transfer-Encoding: chunked\r\nx: %d", endless_in_chunks), False),
    ],
)
async def test_the_text_of_a_refusal_is_read_however_it_is_sent_but_not_without_end(
    server: RawServer, store: ObjectStore, sent: bytes, *, is_kept: bool
) -> None:
    """AWS sends it in chunks; what is longer than 64 KiB is left unread, and its connection closed."""
    server.answers.append(sent)

    with pytest.raises(NoSuchObjectError, match="NoSuchKey"):
        await read(store)

    assert await read(store) == CONTENT
    assert (server.requests[0].connection == server.requests[1].connection) is is_kept


async def test_the_text_of_a_refusal_may_end_with_its_connection(
    server: RawServer, store: ObjectStore
) -> None:
    """As HTTP/1.0 does."""
    server.is_closing_behind_answers = True
    server.answers.append(refused("AccessDenied", b"x: %d"))

    with pytest.raises(AccessDeniedError, match="AccessDenied"):
        await read(store)


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + RIGHT,
        RIGHT.replace(b"Content-Length: 5000\r\n", b""),
        RIGHT.replace(b"Content-Length: 5000\r\n", b"").replace(b"HTTP/1.1", b"HTTP/1.0"),
        RIGHT.replace(b"Content-Length: 5000", b"Transfer-Encoding: gzip, chunked"),
    ],
)
async def test_an_answer_that_the_direct_way_does_not_know_is_left_to_the_library_from_then_on(
    server: RawServer, store: ObjectStore, sent: bytes
) -> None:
    """In the same attempt, and people are told once."""
    server.answers.append(sent)

    with capture_logs() as logs:
        for _ in range(3):
            assert await read(store) == CONTENT

    assert [request.is_direct for request in server.requests] == [True, False, False, False]
    assert [entry["event"] for entry in logs] == [
        "Objects are read through aiobotocore, which costs more CPU"
    ]


async def test_a_slot_is_never_written_after_its_reading_was_cancelled(
    server: RawServer, store: ObjectStore
) -> None:
    """It is another object's by then; bytes that come late go nowhere."""
    head_and_half, rest, last = RIGHT[:-2_500], RIGHT[-2_500:-1_000], RIGHT[-1_000:]
    server.answers.append(head_and_half)
    slot = bytearray(len(CONTENT))
    reading = asyncio.create_task(store.read_range(VERSION, 0, memoryview(slot)))
    while slot[:2_500] != CONTENT[:2_500]:  # noqa: ASYNC110 - the socket fills it, no event tells
        await asyncio.sleep(0)

    reading.cancel()
    server.writers[-1].write(rest)  # on its way before the cancellation is handled
    await asyncio.wait([reading])
    slot[:] = bytes(len(slot))
    server.writers[-1].write(last)
    for _ in range(100):
        await asyncio.sleep(0)

    assert slot == bytes(len(slot))
    assert reading.cancelled()
    assert await read(store) == CONTENT
    assert server.requests[0].connection != server.requests[1].connection


async def test_a_failed_answer_writes_nothing_later_either(server: RawServer, store: ObjectStore) -> None:
    """Not even what is in the socket already."""
    server.answers.append(RIGHT.replace(b"0-4999", b"1-5000"))
    slot = bytearray(len(CONTENT))

    with pytest.raises(WrongAnswerError):
        await store.read_range(VERSION, 0, memoryview(slot))
    for _ in range(100):
        await asyncio.sleep(0)

    assert slot == bytes(len(slot))


async def test_a_proxy_in_the_environment_is_left_to_the_library(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The direct way would go past it."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    async with ObjectStore(access_to("http://s3.example.test"), LIMITS) as store:
        with capture_logs() as logs:
            assert [await read(store) for _ in range(3)] == [CONTENT] * 3

    assert [request.is_direct for request in server.requests] == [False] * 3
    assert server.requests[0].target == "http://s3.example.test/bucket/folder/key"
    assert [entry["reason"] for entry in logs] == ["a proxy stands between"]


async def test_a_bucket_in_the_host_name_is_reached_there(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the bucket goes is the library's decision, also with many buckets."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *more, **options: resolve("127.0.0.1", *more, **options)
    )
    access = access_to(f"http://s3.localhost:{server.port}", addressing_style="virtual")
    async with ObjectStore(access, LIMITS) as store:
        for bucket in ("one", "two", "one", "two"):
            await read(store, ObjectVersion(ObjectAddress(bucket, "folder/key"), ETAG, len(CONTENT)))

    assert [request.is_direct for request in server.requests] == [False, False, True, True]
    assert [request.headers["host"].partition(".")[0] for request in server.requests] == ["one", "two"] * 2
    assert {request.target for request in server.requests} == {"/folder/key"}
    for request in server.requests:
        assert request.headers["authorization"].endswith(f"Signature={signature_of(request)}")


async def test_an_address_of_ipv6_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In brackets in the header, without them to the socket."""
    raw = RawServer()
    try:
        listening = await asyncio.start_server(raw.serve, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = listening.sockets[0].getsockname()[1]
    async with listening, ObjectStore(access_to(f"http://[::1]:{port}"), LIMITS) as store:
        assert [await read(store) for _ in range(2)] == [CONTENT] * 2
        for writer in raw.writers:
            writer.close()

    assert [request.is_direct for request in raw.requests] == [False, True]
    assert {request.headers["host"] for request in raw.requests} == {f"[::1]:{port}"}


async def test_an_etag_that_no_header_can_carry_is_never_sent(server: RawServer, store: ObjectStore) -> None:
    """A line end in it would begin a header of the server's own making."""
    version = ObjectVersion(ADDRESS, '"a"\r\nx-amz-evil: 1', len(CONTENT))

    with pytest.raises(WrongAnswerError, match="ETag"):
        await read(store, version)

    assert not server.requests


async def test_a_store_that_is_closed_leaves_no_connection(server: RawServer) -> None:
    """The server sees the end of each."""
    async with ObjectStore(access_to(server.url), LIMITS) as store:
        await read(store)
        await asyncio.gather(*(read(store) for _ in range(4)))

    for writer in server.writers:
        async with asyncio.timeout(5):
            await writer.wait_closed()
