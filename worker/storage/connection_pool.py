"""Kept connections to a few origins."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING

from botocore.httpsession import create_urllib3_context, get_cert_path

from worker.network import check_addresses
from worker.storage.http_connection import ClosedBeforeAnswerError, Connection

if TYPE_CHECKING:
    from worker.storage.http_connection import Origin, Receiver

# What lies between may forget a connection without a word, and a request into it would stall; as aiobotocore.
_MOST_IDLE_SECONDS = 12


class ConnectionPool:
    """Kept connections to a few origins; whoever asks gets the one used last, or a fresh one.

    It bounds those that idle; how many are busy is for its user to bound.

    Args:
        most_idle: Beyond that the one that idles for longest is closed.
        connect_timeout_seconds: For one connection, TLS included.
        verify_tls: False trusts any certificate; a path names a file of CA certificates; True takes the same
            certificates as botocore.
    """

    def __init__(self, *, most_idle: int, connect_timeout_seconds: float, verify_tls: bool | str) -> None:
        self._most_idle = most_idle
        self._connect_timeout_seconds = connect_timeout_seconds
        self._verify_tls = verify_tls
        self._tls: ssl.SSLContext | None = None
        self._idle: list[Connection] = []

    def __repr__(self) -> str:
        return f"<ConnectionPool {len(self._idle)} of at most {self._most_idle} idle>"

    async def aclose(self) -> None:
        """Close the connections that idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
            await connection.wait_closed()

    async def get(self, origin: Origin, request: bytes, receiver: Receiver) -> None:
        """Send a request and hand its answer to the receiver; see `Connection.exchange`.

        A kept connection that the server has closed meanwhile is no failure: a fresh one is tried.

        Raises:
            AddressNotAllowedError: The host leads where nothing is sent.
            OSError: No connection, or it broke.
            MalformedAnswerError: What came is no answer.
            UnsupportedAnswerError: It is one that we cannot read.
        """
        kept = self._take(origin)
        if kept is not None:
            try:
                await kept.exchange(request, receiver)
            except ClosedBeforeAnswerError:
                pass
            else:
                self._keep(kept)
                return
        fresh = await self._connect(origin)
        await fresh.exchange(request, receiver)
        self._keep(fresh)

    def _take(self, origin: Origin) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - _MOST_IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).close()
        for connection in reversed(self._idle):
            if connection.origin == origin and connection.is_reusable:
                self._idle.remove(connection)
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        if not connection.is_reusable:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if len(self._idle) > self._most_idle:
            self._idle.pop(0).close()

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    async def _connect(self, origin: Origin) -> Connection:
        if origin.is_tls and self._tls is None:
            # Reading the certificates takes 20 ms and more.
            self._tls = await asyncio.to_thread(_tls_context, self._verify_tls)
        addresses = await asyncio.get_running_loop().getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM
        )
        check_addresses(origin.host, (str(sockaddr[0]) for *_, sockaddr in addresses))
        failure: OSError = ConnectionError(f"no address of {origin.host}")
        # One after the other, each with its share of the time, so that one which swallows packets cannot take
        # all of it. asyncio's own race between addresses loses a socket when it is cancelled (Python 3.11).
        for *_, sockaddr in addresses:
            try:
                async with asyncio.timeout(self._connect_timeout_seconds / len(addresses)):
                    return await self._connect_to(origin, str(sockaddr[0]))
            except TimeoutError:
                failure = ConnectionError(f"{origin.host}:{origin.port} does not answer")
            except OSError as error:
                failure = error
        raise failure

    async def _connect_to(self, origin: Origin, ip_address: str) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            partial(Connection, origin, self._forget),
            ip_address,
            origin.port,
            ssl=self._tls if origin.is_tls else None,
            server_hostname=origin.host if origin.is_tls else None,
        )
        return connection


def _tls_context(verify_tls: bool | str) -> ssl.SSLContext:  # noqa: FBT001 - it may be a path as well
    """Make what aiobotocore makes for itself: one storage is not trusted in two ways."""
    context: ssl.SSLContext = create_urllib3_context()
    context.check_hostname = bool(verify_tls)
    if verify_tls:
        context.load_verify_locations(get_cert_path(verify_tls))  # type: ignore[arg-type] # the stubs forget the path
    else:
        context.verify_mode = ssl.CERT_NONE
    return context
