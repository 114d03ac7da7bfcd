"""A small S3 server that misbehaves on demand, over real sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from worker.storage.access import StoreAccess, StoreLimits
from worker.storage.object_version import ObjectAddress, ObjectVersion

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from worker.storage.store import ObjectStore

    Fault = Callable[["FaultyS3", web.BaseRequest], Awaitable[web.StreamResponse]]

CONTENT = bytes(byte % 251 for byte in range(10_000))
ETAG = '"pinned"'
ADDRESS = ObjectAddress("bucket", "folder/key")
VERSION = ObjectVersion(ADDRESS, ETAG, len(CONTENT))
LIMITS = StoreLimits(max_connections=4, attempts=3, first_pause_seconds=0.001, longest_pause_seconds=0.002)


@dataclass
class FaultyS3:
    """Serves one object rightly, except where a fault says otherwise; keeps what was asked.

    Attributes:
        faults: For the next requests, one each.
        always: For all that come behind them; None serves them rightly.
    """

    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    asked: list[str] = field(default_factory=list)
    requests: list[web.BaseRequest] = field(default_factory=list)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    freed: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Forget everything, for the next test."""
        self.faults.clear()
        self.always = None
        self.asked.clear()
        self.requests.clear()
        self.stalled.clear()
        self.freed.clear()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with the next fault, or rightly."""
        self.asked.append(request.headers.get("Range", request.method).removeprefix("bytes="))
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else self.always or FaultyS3.serve
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


def refuse(status: int, code: str, retry_after: str | None = None) -> Fault:
    """Answer with an S3 error; HEAD gets no body, hence no code."""
    wish = {} if retry_after is None else {"Retry-After": retry_after}

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        text = f"<Error><Code>{code}</Code><Message>AKIATESTKEY hush-secret</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml", headers=wish)

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


async def whole_but_not_ended(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
    """Send every byte, and never say that it was the last."""
    response = web.StreamResponse(status=206, headers=headers(*bounds(request)))
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(CONTENT)
    await server.freed.wait()
    return response


def empty_object(status: int) -> Fault:
    """Answer as servers do for an empty object: 416 to a range, or 200 without a body."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        has_range = request.method == "GET" and status == 416
        return web.Response(
            status=status if has_range else 200, headers={"ETag": ETAG, "Content-Length": "0"}
        )

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


async def read(store: ObjectStore, start: int = 0, length: int = len(CONTENT)) -> bytes:
    """Read one range of the object."""
    destination = bytearray(length)
    await store.read_range(VERSION, start, memoryview(destination))
    return bytes(destination)


async def read_first(store: ObjectStore, length: int = 20_000) -> tuple[list[ObjectVersion], bytes]:
    """Read the object's beginning without a pin before."""
    pinned: list[ObjectVersion] = []
    destination = bytearray(length)
    await store.read_first(ADDRESS, memoryview(destination), pinned.append)
    return pinned, bytes(destination)


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


@dataclass(frozen=True, eq=False)
class Slot:
    """One range's buffer."""

    view: memoryview


@dataclass(frozen=True, eq=False)
class OneSlot:
    """A ring that lends its one slot to a reader that has one range in flight."""

    slot: Slot

    async def acquire(self) -> Slot:
        """Lend the slot."""
        return self.slot

    def release(self, slot: Slot) -> None:
        """Take it back."""
