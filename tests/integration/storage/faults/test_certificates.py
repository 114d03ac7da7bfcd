"""Whom the store believes to be the storage."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_s3 import CONTENT, LIMITS, FaultyS3, access_to, make_certificate, read, serving
from worker.storage.connection_pool import ConnectionPool
from worker.storage.errors import StorageUnreachableError
from worker.storage.http_connection import Origin
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

    from worker.storage.http_head import Head


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
