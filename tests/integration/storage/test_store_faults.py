"""The store against a small S3 server that misbehaves on demand, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.connection_pool import ConnectionPool
from worker.storage.errors import (
    AccessDeniedError,
    CredentialsError,
    NoSuchBucketError,
    NoSuchObjectError,
    NoSuchRangeError,
    ObjectChangedError,
    ObjectOfflineError,
    ReadStalledError,
    StorageBusyError,
    StorageError,
    StorageUnreachableError,
    WrongAnswerError,
)
from worker.storage.http_connection import Origin
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.reader import read_object
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from worker.storage.http_head import Head

    Fault = Callable[["FaultyS3", web.BaseRequest], Awaitable[web.StreamResponse]]

# The faults are many and each needs a server, so all share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT = bytes(byte % 251 for byte in range(10_000))
ETAG = '"pinned"'
ADDRESS = ObjectAddress("bucket", "folder/key")
VERSION = ObjectVersion(ADDRESS, ETAG, len(CONTENT))
LIMITS = StoreLimits(max_connections=4, attempts=3, first_wait_seconds=0.001, longest_wait_seconds=0.002)


@dataclass
class FaultyS3:
    """Serves one object rightly, except where the next fault says otherwise; keeps what was asked."""

    faults: deque[Fault] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    requests: list[web.BaseRequest] = field(default_factory=list)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    freed: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Forget everything, for the next test."""
        self.faults.clear()
        self.asked.clear()
        self.requests.clear()
        self.stalled.clear()
        self.freed.clear()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with the next fault, or rightly."""
        self.asked.append(request.headers.get("Range", request.method).removeprefix("bytes="))
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else FaultyS3.serve
        return await fault(self, request)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer rightly."""
        if request.method == "HEAD":
            return web.Response(headers={"ETag": ETAG, "Content-Length": str(len(CONTENT))})
        first, last = bounds(request)
        return web.Response(status=206, headers=headers(first, last), body=CONTENT[first : last + 1])


def bounds(request: web.BaseRequest) -> tuple[int, int]:
    """Read the first and the last byte that are asked for and there."""
    first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
    return int(first), min(int(last), len(CONTENT) - 1)


def headers(first: int, last: int) -> dict[str, str]:
    """Make the headers of a right answer."""
    return {"ETag": ETAG, "Content-Range": f"bytes {first}-{last}/{len(CONTENT)}"}


def refuse(status: int, code: str) -> Fault:
    """Answer with an S3 error; HEAD gets no body, hence no code."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        text = f"<Error><Code>{code}</Code><Message>AKIATESTKEY hush-secret</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    return fault


async def send_part(server: FaultyS3, request: web.BaseRequest, part_bytes: int) -> web.StreamResponse:
    """Send the head of a right answer and the first bytes of its body."""
    first, last = bounds(request)
    response = web.StreamResponse(status=206, headers=headers(first, last))
    response.content_length = last + 1 - first
    await response.prepare(request)
    await response.write(CONTENT[first : first + part_bytes])
    return response


def cut(part_bytes: int) -> Fault:
    """End the connection in mid-body."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = await send_part(server, request, part_bytes)
        assert request.transport is not None
        request.transport.close()
        return response

    return fault


def reset(part_bytes: int) -> Fault:
    """Reset the connection in mid-body."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = await send_part(server, request, part_bytes)
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(
            1, 13, b"\x01\0\0\0\0\0\0\0"
        )  # SO_LINGER 0: RST
        request.transport.abort()
        return response

    return fault


def stall(part_bytes: int) -> Fault:
    """Send some bytes, then nothing."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = await send_part(server, request, part_bytes)
        server.stalled.set()
        await server.freed.wait()
        return response

    return fault


async def stall_before_the_head(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
    """Take the request and say nothing."""
    server.stalled.set()
    await server.freed.wait()
    return web.Response()


async def drip(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
    """Send a byte now and then: never silent, and never done."""
    response = await send_part(server, request, 0)
    first, last = bounds(request)
    for byte in CONTENT[first : last + 1]:
        await response.write(bytes([byte]))
        await asyncio.sleep(0.01)
    return response


async def whole_object(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
    """Ignore the Range, as some servers do."""
    return web.Response(status=200, headers={"ETag": ETAG}, body=CONTENT)


def answer(first: int, last: int, size_bytes: int, body: bytes, etag: str = ETAG) -> Fault:
    """Answer 206 with this Content-Range and this body."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        content_range = f"bytes {first}-{last}/{size_bytes}"
        return web.Response(status=206, headers={"ETag": etag, "Content-Range": content_range}, body=body)

    return fault


def chunked(body: bytes) -> Fault:
    """Send a body whose length no header tells."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=206, headers=headers(*bounds(request)))
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        return response

    return fault


@asynccontextmanager
async def serving(handler: FaultyS3, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server on a free port."""
    # HEAD goes to the handler like GET; the path is taken as it came.
    runner = web.ServerRunner(web.Server(handler.handle), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        handler.freed.set()
        await runner.cleanup()


def access_to(endpoint_url: str, *, verify_tls: bool | str = True) -> StoreAccess:
    """Make the access with secrets that a test can look for."""
    return StoreAccess(
        endpoint_url=endpoint_url,
        region="us-east-1",
        access_key="AKIATESTKEY",
        secret_key=SecretStr("hush-secret"),
        session_token=SecretStr("hush-token"),
        addressing_style="path",
        verify_tls=verify_tls,
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[tuple[FaultyS3, str]]:
    """Run the misbehaving server."""
    handler = FaultyS3()
    async with serving(handler) as endpoint_url:
        yield handler, endpoint_url


@pytest_asyncio.fixture(loop_scope="module")
async def server(running: tuple[FaultyS3, str]) -> AsyncIterator[FaultyS3]:
    """Give the misbehaving server without a memory of earlier tests."""
    handler, _ = running
    handler.reset()
    yield handler
    handler.freed.set()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def store(running: tuple[FaultyS3, str], is_direct: bool) -> AsyncIterator[ObjectStore]:  # noqa: FBT001 - a fixture
    """Open the store under test."""
    async with ObjectStore(access_to(running[1]), LIMITS, is_direct=is_direct) as store:
        await read(store)  # the first range of a bucket goes by the library either way
        yield store


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def impatient_store(
    running: tuple[FaultyS3, str],
    is_direct: bool,  # noqa: FBT001 - a fixture
) -> AsyncIterator[ObjectStore]:
    """Open a store that waits for half a second and wants 20,000 bytes a second."""
    limits = StoreLimits(
        connect_timeout_seconds=0.1,
        read_timeout_seconds=0.5,
        slowest_bytes_per_second=20_000,
        attempts=2,
        first_wait_seconds=0.001,
    )
    async with ObjectStore(access_to(running[1]), limits, is_direct=is_direct) as store:
        await read(store)
        yield store


async def read(store: ObjectStore, start: int = 0, length: int = len(CONTENT)) -> bytes:
    """Read one range of the object."""
    destination = bytearray(length)
    await store.read_range(VERSION, start, memoryview(destination))
    return bytes(destination)


async def test_a_range_asks_for_the_pinned_object_and_nothing_else(
    server: FaultyS3, store: ObjectStore
) -> None:
    """If-Match carries the ETag as it came, Range the bytes; there is no version id to name."""
    assert await read(store, 100, 50) == CONTENT[100:150]

    (request,) = server.requests
    assert (request.headers["If-Match"], request.headers["Range"]) == (ETAG, "bytes=100-149")
    assert not request.query.get("versionId")


async def test_a_version_id_is_part_of_every_request(server: FaultyS3, store: ObjectStore) -> None:
    """The pinned version is read even if a newer one comes meanwhile."""
    version = ObjectVersion(ObjectAddress("bucket", "key", "v&1"), ETAG, len(CONTENT))

    await store.read_range(version, 0, memoryview(bytearray(10)))

    assert server.requests[0].query["versionId"] == "v&1"
    assert server.requests[0].headers["If-Match"] == ETAG


@pytest.mark.parametrize("key", ["new\nline", "../up", "a/./b", "/lead", "a//b", "100%", "%2F", "a+b", "ünï"])
async def test_an_odd_key_reaches_the_server_as_it_is(server: FaultyS3, store: ObjectStore, key: str) -> None:
    """Nothing on the way decodes or tidies a path."""
    await store.pin(ObjectAddress("bucket", key))

    assert unquote(server.requests[0].raw_path) == f"/bucket/{key}"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (whole_object, WrongAnswerError),
        (answer(1, 10_000, 10_000, CONTENT), WrongAnswerError),
        (answer(0, 9_998, 10_000, CONTENT[:-1]), WrongAnswerError),
        (answer(0, 9_999, 10_000, CONTENT[:-1]), WrongAnswerError),
        (answer(0, 9_999, 10_000, CONTENT + b"!"), WrongAnswerError),
        (chunked(CONTENT + b"!"), WrongAnswerError),
        (answer(0, 9_999, 10_001, CONTENT), ObjectChangedError),
        (answer(0, 9_999, 10_000, CONTENT, etag='"other"'), ObjectChangedError),
    ],
)
async def test_a_wrong_answer_is_an_error_never_a_digest(
    server: FaultyS3, store: ObjectStore, fault: Fault, error: type[StorageError]
) -> None:
    """200 for 206, other bytes, another length, another object: and it is not asked again."""
    server.faults.append(fault)

    with pytest.raises(error, match="s3://bucket/folder/key"):
        await read(store)

    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", [cut(4_000), reset(4_000), chunked(CONTENT[:4_000])])
async def test_a_body_that_breaks_goes_on_from_the_byte_it_reached(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """No byte is asked for again that has come, unless the break swallowed it on the way."""
    server.faults.append(fault)

    content = await read(store)

    assert content == CONTENT
    first, again = server.asked
    assert first == "0-9999"
    assert 0 <= int(again.removesuffix("-9999")) <= 4_000


async def test_a_body_that_is_too_short_is_resumed_each_time_where_it_stopped(
    server: FaultyS3, store: ObjectStore
) -> None:
    """The bytes asked for in all are the object's, and those cut off once more each."""
    server.faults.extend([chunked(CONTENT[100:1_100]), chunked(CONTENT[1_100:1_101])])

    content = await read(store, 100, 5_000)

    assert content == CONTENT[100:5_100]
    assert server.asked == ["100-5099", "1100-5099", "1101-5099"]


async def test_a_body_that_always_breaks_is_given_up_after_the_attempts(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Everything is bounded, also a little progress each time."""
    server.faults.extend([cut(1), cut(1), cut(1)])

    with pytest.raises(StorageUnreachableError, match="s3://bucket/folder/key"):
        await read(store)

    assert len(server.asked) == LIMITS.attempts


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (500, "InternalError"),
        (429, "TooManyRequests"),
        (502, "?"),
        (504, "?"),
        (400, "RequestTimeout"),
    ],
)
async def test_a_busy_storage_is_asked_again(
    server: FaultyS3, store: ObjectStore, status: int, code: str
) -> None:
    """Twice busy, then fine."""
    server.faults.extend([refuse(status, code)] * 2)

    assert await read(store, 0, 10) == CONTENT[:10]
    assert server.asked == ["0-9"] * 3


async def test_a_storage_that_stays_busy_is_given_up_after_the_attempts(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Attempts do not multiply with those of the client below; pinning knows no more than reading."""
    server.faults.extend([refuse(503, "SlowDown")] * 2 * LIMITS.attempts)

    with pytest.raises(StorageBusyError, match=r"s3://bucket/folder/key.*SlowDown"):
        await read(store)
    with pytest.raises(StorageBusyError, match="s3://bucket/folder/key"):
        await store.pin(ADDRESS)

    assert server.asked == ["0-9999"] * LIMITS.attempts + ["HEAD"] * LIMITS.attempts


REFUSALS = [
    (403, "AccessDenied", AccessDeniedError),
    (403, "SomethingNew", AccessDeniedError),
    (403, "InvalidAccessKeyId", CredentialsError),
    (403, "SignatureDoesNotMatch", CredentialsError),
    (403, "RequestTimeTooSkewed", CredentialsError),
    (400, "ExpiredToken", CredentialsError),
    (401, "Unauthorized", CredentialsError),
    (403, "InvalidObjectState", ObjectOfflineError),
    (404, "NoSuchKey", NoSuchObjectError),
    (404, "NoSuchVersion", NoSuchObjectError),
    (405, "MethodNotAllowed", NoSuchObjectError),
    (404, "NoSuchBucket", NoSuchBucketError),
    (412, "PreconditionFailed", ObjectChangedError),
    (416, "InvalidRange", NoSuchRangeError),
    (400, "NobodyKnows", WrongAnswerError),
    (301, "PermanentRedirect", WrongAnswerError),
]


@pytest.mark.parametrize(("status", "code", "error"), REFUSALS)
async def test_a_refused_range_says_why_and_is_not_asked_again(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """The class tells the reason, the text names the object and no secret, whatever the server echoes."""
    server.faults.append(refuse(status, code))

    with pytest.raises(error) as caught:
        await read(store)

    assert type(caught.value) is error
    assert "s3://bucket/folder/key" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "AKIATESTKEY" not in str(caught.value)
    assert server.asked.count("0-9999") == 1


@pytest.mark.parametrize(("status", "code", "error"), REFUSALS)
async def test_a_refused_pin_says_why_though_head_has_no_body(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """The first byte is asked for, to learn the reason."""
    server.faults.extend([refuse(status, code)] * 4)

    with pytest.raises(error) as caught:
        await store.pin(ADDRESS)

    assert type(caught.value) is error
    assert "s3://bucket/folder/key" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", AccessDeniedError),
        (403, "InvalidAccessKeyId", CredentialsError),
        (404, "NoSuchBucket", NoSuchBucketError),
        (503, "SlowDown", StorageBusyError),
    ],
)
async def test_a_bucket_that_is_refused_says_why(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """HeadBucket has no body either: the reason comes from listing it, never from listing all buckets."""
    server.faults.extend([refuse(status, code)] * LIMITS.attempts)

    with pytest.raises(error, match="s3://bucket"):
        await store.reach("bucket")

    assert all(request.path.startswith("/bucket") for request in server.requests)


async def test_a_head_that_alone_is_refused_stays_an_error(server: FaultyS3, store: ObjectStore) -> None:
    """Even if the GET that asks for the reason is answered."""
    server.faults.append(refuse(403, ""))

    with pytest.raises(AccessDeniedError):
        await store.pin(ADDRESS)


@pytest.mark.parametrize("etag", [{}, {"ETag": 'W/"weak"'}])
async def test_an_object_that_nothing_can_pin_is_refused(
    server: FaultyS3, store: ObjectStore, etag: dict[str, str]
) -> None:
    """Without a strong ETag a change within a second would go unseen."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": "5", **etag})

    server.faults.append(fault)

    with pytest.raises(WrongAnswerError, match="s3://bucket/folder/key"):
        await store.pin(ADDRESS)


@pytest.mark.parametrize(
    ("fault", "again"), [(stall(4_000), "4000-9999"), (stall(0), "0-9999"), (stall_before_the_head, "0-9999")]
)
async def test_a_storage_that_falls_silent_is_cut_and_asked_again(
    server: FaultyS3, impatient_store: ObjectStore, fault: Fault, again: str
) -> None:
    """From the byte it reached."""
    server.faults.append(fault)

    assert await read(impatient_store) == CONTENT
    assert server.asked == ["0-9999", again]


async def test_a_storage_that_stays_silent_is_given_up_after_the_attempts(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """Silence before the first byte of an answer counts as well, also for the pin."""
    server.faults.extend([stall(10), *[stall_before_the_head] * 3])

    with pytest.raises(ReadStalledError, match="s3://bucket/folder/key"):
        await read(impatient_store)
    with pytest.raises(ReadStalledError, match="s3://bucket/folder/key"):
        await impatient_store.pin(ADDRESS)

    assert server.asked == ["0-9999", "10-9999", "HEAD", "HEAD"]


async def test_a_drip_below_the_floor_is_cut(server: FaultyS3, impatient_store: ObjectStore) -> None:
    """Bytes come all the time, so no socket timeout would ever end it."""
    server.faults.extend([drip, drip])

    with pytest.raises(ReadStalledError, match="s3://bucket/folder/key"):
        await read(impatient_store)

    again = int(server.asked[1].removesuffix("-9999"))
    assert again > 0


async def test_a_storage_that_does_not_run_is_unreachable(unused_tcp_port: int) -> None:
    """For a pin, a range and a bucket alike."""
    async with ObjectStore(access_to(f"http://127.0.0.1:{unused_tcp_port}"), LIMITS) as store:
        for asking in (store.pin(ADDRESS), read(store), store.reach("bucket")):
            with pytest.raises(StorageUnreachableError, match=f"s3://bucket.*{unused_tcp_port}") as caught:
                await asking
            assert "hush" not in str(caught.value)


async def test_no_answer_sends_the_keys_elsewhere(server: FaultyS3, store: ObjectStore) -> None:
    """A redirect is an error: a session token must not follow it to another host."""
    elsewhere = FaultyS3()
    async with serving(elsewhere) as other_url:

        async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{other_url}{request.raw_path}"})

        server.faults.extend([fault] * 20)  # the client asks for the bucket's region meanwhile
        with pytest.raises(WrongAnswerError, match="307"):
            await read(store)
        with pytest.raises(WrongAnswerError, match="307"):
            await store.pin(ADDRESS)

    assert not elsewhere.asked


async def test_a_bucket_of_another_region_is_read_with_a_new_signature(
    server: FaultyS3, store: ObjectStore
) -> None:
    """AWS answers 301 and names the region in a header; that is no redirect to elsewhere."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        if "/eu-west-7/s3/" in request.headers["Authorization"]:
            return await server.serve(request)
        return web.Response(status=301, headers={"x-amz-bucket-region": "eu-west-7"})

    server.faults.extend([fault] * 4)

    assert await read(store) == CONTENT
    asked_to_learn_it = len(server.asked)
    assert await read(store) == CONTENT
    assert asked_to_learn_it <= 3
    assert len(server.asked) == asked_to_learn_it + 1


async def test_more_requests_than_connections_wait_for_their_turn(
    server: FaultyS3, store: ObjectStore
) -> None:
    """However many callers there are, the storage sees no more than it was said to bear."""
    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(read(store, start, 100)) for start in range(0, 10_000, 100)]

    assert b"".join(reading.result() for reading in readings) == CONTENT
    assert "0 of 4 connections busy" in repr(store)


@pytest.mark.parametrize("fault", [stall(500), stall_before_the_head])
async def test_cancellation_in_mid_read_gives_slots_and_connections_back(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """And leaves no task of ours."""
    server.faults.extend([fault] * 3)
    ring: asyncio.Queue[Slot] = asyncio.Queue()
    for _ in range(3):
        ring.put_nowait(Slot(memoryview(bytearray(1_000))))

    class Ring:
        async def acquire(self) -> Slot:
            return await ring.get()

        def release(self, slot: Slot) -> None:
            ring.put_nowait(slot)

    async def consume() -> None:
        async with read_object(store, VERSION, Ring(), ranges_in_flight=3) as ranges:
            async for _ in ranges:
                pytest.fail("no range can be whole")

    reading = asyncio.create_task(consume())
    await server.stalled.wait()
    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert ring.qsize() == 3
    assert "0 of 4 connections busy" in repr(store)
    assert not [task for task in asyncio.all_tasks() if "worker/storage" in repr(task)]
    server.faults.clear()
    assert await read(store) == CONTENT


async def read_first(store: ObjectStore, length: int = 20_000) -> tuple[list[ObjectVersion], bytes]:
    """Read the object's beginning without a pin before."""
    pinned: list[ObjectVersion] = []
    destination = bytearray(length)
    await store.read_first(ADDRESS, memoryview(destination), pinned.append)
    return pinned, bytes(destination)


@pytest.mark.parametrize("length", [1, 9_999, 10_000, 10_001])
async def test_the_first_range_pins_the_object_in_one_request(
    server: FaultyS3, store: ObjectStore, length: int
) -> None:
    """Whether the object is longer, as long or shorter than the memory for it."""
    pinned, content = await read_first(store, length)

    assert pinned == [VERSION]
    assert content[:10_000] == CONTENT[:length]
    assert server.asked == [f"0-{length - 1}"]
    assert "If-Match" not in server.requests[0].headers


@pytest.mark.parametrize("fault", [cut(4_000), reset(4_000), chunked(CONTENT[:4_000])])
async def test_a_first_range_that_breaks_goes_on_with_the_version_it_pinned(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """Its bytes must not be followed by those of another version."""
    server.faults.append(fault)

    pinned, content = await read_first(store)

    assert pinned == [VERSION]
    assert content[:10_000] == CONTENT
    assert server.asked[1].endswith("-9999") or server.asked[1] == "0-19999"  # the reset swallowed the head
    assert server.requests[-1].headers.get("If-Match", ETAG) == ETAG


@pytest.mark.parametrize(
    "then", [refuse(412, "PreconditionFailed"), answer(4_000, 9_999, 10_000, CONTENT[4_000:], etag='"new"')]
)
async def test_an_object_overwritten_while_its_first_range_breaks_has_changed(
    server: FaultyS3, store: ObjectStore, then: Fault
) -> None:
    """The rest of another version is refused by the storage, and by us."""
    server.faults.extend([cut(4_000), then])

    with pytest.raises(ObjectChangedError, match="s3://bucket/folder/key"):
        await read_first(store)

    assert server.requests[1].headers["If-Match"] == ETAG


@pytest.mark.parametrize(
    ("status", "code", "error"), [row for row in REFUSALS if row[2] is not NoSuchRangeError]
)
async def test_a_refused_first_range_says_why_in_one_request(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """Unlike HEAD, GET tells the reason."""
    server.faults.append(refuse(status, code))

    with pytest.raises(error) as caught:
        await read_first(store)

    assert type(caught.value) is error
    assert "hush" not in str(caught.value)
    assert server.asked.count("0-19999") == 1


def empty_object(status: int) -> Fault:
    """Answer as servers do for an empty object: 416 to a range, or 200 without a body."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        has_range = request.method == "GET" and status == 416
        return web.Response(
            status=status if has_range else 200, headers={"ETag": ETAG, "Content-Length": "0"}
        )

    return fault


@pytest.mark.parametrize(("status", "asked"), [(416, ["0-19999", "HEAD"]), (200, ["0-19999"])])
async def test_an_empty_object_is_pinned_without_a_byte(
    server: FaultyS3, store: ObjectStore, status: int, asked: list[str]
) -> None:
    """It has no first byte that a range could ask for."""
    server.faults.extend([empty_object(status)] * 2)

    pinned, _ = await read_first(store)

    assert pinned == [ObjectVersion(ADDRESS, ETAG, 0)]
    assert server.asked == asked


async def test_another_version_than_the_one_named_is_refused(server: FaultyS3, store: ObjectStore) -> None:
    """By the pin and by the first range: the digest would be of something that nobody asked for."""
    named = ObjectAddress("bucket", "key", "v1")
    destination = memoryview(bytearray(100))

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = await server.serve(request)
        response.headers["x-amz-version-id"] = "v2"
        return response

    server.faults.extend([fault] * 2)

    with pytest.raises(WrongAnswerError, match="another version id"):
        await store.pin(named)
    with pytest.raises(WrongAnswerError, match="another version id"):
        await store.read_first(named, destination, lambda _: pytest.fail("nothing can be pinned"))

    assert server.asked == ["HEAD", "0-99"]


async def test_an_object_that_is_no_longer_empty_is_read_as_it_is_then(
    server: FaultyS3, store: ObjectStore
) -> None:
    """It was overwritten between the range and the pin."""
    server.faults.append(empty_object(416))

    pinned, content = await read_first(store)

    assert pinned == [VERSION]
    assert content[:10_000] == CONTENT
    assert server.asked == ["0-19999", "HEAD", "0-9999"]
    assert server.requests[-1].headers["If-Match"] == ETAG


@pytest.mark.parametrize(
    "fault",
    [
        whole_object,
        answer(0, 9_999, 10_000, CONTENT, etag='W/"weak"'),
        answer(0, 9_999, 10_001, CONTENT),
        answer(0, 19_999, 10_000, CONTENT),
        answer(0, 9_999, 10_000, CONTENT[:-1]),
        chunked(CONTENT + b"!"),
    ],
)
async def test_a_wrong_first_answer_is_an_error_never_a_digest(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """The same rules as for every later range."""
    server.faults.append(fault)

    with pytest.raises(WrongAnswerError, match="s3://bucket/folder/key"):
        await read_first(store)

    assert len(server.asked) == 1


async def test_a_reader_asks_once_for_an_object_that_fits_a_slot(
    server: FaultyS3, store: ObjectStore
) -> None:
    """And once for each range of one that does not."""
    asked = {}
    for slot_bytes in (10_000, 9_999, 4_000):
        server.asked.clear()
        slot = Slot(memoryview(bytearray(slot_bytes)))
        content = bytearray()
        async with read_object(store, ADDRESS, OneSlot(slot), ranges_in_flight=1) as ranges:
            async for _, length in ranges:
                content += slot.view[:length]
        assert content == CONTENT
        asked[slot_bytes] = list(server.asked)

    assert asked == {
        10_000: ["0-9999"],
        9_999: ["0-9998", "9999-9999"],
        4_000: ["0-3999", "4000-7999", "8000-9999"],
    }


@dataclass(frozen=True, eq=False)
class OneSlot:
    """A ring that lends its one slot to a reader that has one range in flight."""

    slot: Slot

    async def acquire(self) -> Slot:
        """Lend the slot."""
        return self.slot

    def release(self, slot: Slot) -> None:
        """Take it back."""


@dataclass(frozen=True, eq=False)
class Slot:
    """One range's buffer."""

    view: memoryview


async def test_a_certificate_is_verified_by_the_named_authority_only(
    tmp_path: Path,
    is_direct: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Unknown: unreachable. Named in a file, or not to be verified: read."""
    certificate = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with serving(FaultyS3(), tls) as endpoint_url:
        async with ObjectStore(access_to(endpoint_url), LIMITS) as store:
            with pytest.raises(StorageUnreachableError, match=r"s3://bucket/folder/key.*certificate"):
                await read(store)
        for verify_tls in (str(certificate), False):
            access = access_to(endpoint_url, verify_tls=verify_tls)
            async with ObjectStore(access, LIMITS, is_direct=is_direct) as store:
                assert [await read(store) for _ in range(3)] == [CONTENT] * 3


def make_certificate(folder: Path) -> Path:
    """Make a certificate of 127.0.0.1, signed by itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_connection_checks_the_name_it_was_opened_for(tmp_path: Path) -> None:
    """The certificate is of 127.0.0.1 and known, the name is another; the server is told the name."""
    certificate = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    told = []
    tls.sni_callback = lambda _socket, name, _context: told.append(name)
    refused: list[type[BaseException] | None] = []
    async with serving(FaultyS3(), tls) as endpoint_url:
        port = int(endpoint_url.rpartition(":")[2])
        known = str(certificate)
        for host, verify_tls in (("127.0.0.1", known), ("localhost", known), ("localhost", False)):
            pool = ConnectionPool(most_idle=1, connect_timeout_seconds=5, verify_tls=verify_tls)
            origin = Origin(is_tls=True, host=host, port=port)
            try:
                await pool.get(origin, b"GET / HTTP/1.1\r\nRange: bytes=0-0\r\n\r\n", Nobody())
            except OSError as error:
                refused.append(type(error))
            else:
                refused.append(None)
            await pool.aclose()

    assert refused == [None, ssl.SSLCertVerificationError, None]
    assert told == [None, "localhost", "localhost"]


class Nobody:
    """Lets any answer in and keeps nothing of it."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(100))

    def accept(self, head: Head) -> None:
        """Let it in."""

    def room(self) -> memoryview:
        """Give the same memory again and again."""
        return self._room

    def advance(self, length: int) -> None:
        """Forget what came."""

    def overflow(self) -> None:
        """Leave the rest unread."""
