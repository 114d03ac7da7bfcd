"""A TCP proxy that does to connections what networks do to them."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

_PIECE_BYTES = 64 * 1024
_HOST = "127.0.0.1"


@dataclass
class Flow:
    """What happens to the bytes on their way to the client, on each connection alike.

    Args:
        delay_seconds: Before each piece.
        drip: Bytes and seconds: so many at once, then so long nothing; None lets them run.
        cut_after_bytes: The connection is reset after so many.
        flip_at: One bit of the byte at this offset of a connection is turned, once.
    """

    delay_seconds: float = 0
    drip: tuple[int, float] | None = None
    cut_after_bytes: int | None = None
    flip_at: int | None = None


class TcpProxy:
    """Forwards connections to a server on this machine, and fails as it is told; an async context manager.

    Args:
        port: The server's port on the loopback interface.
        faults: Where each fault is counted by its name.

    Attributes:
        port: Where it listens; free when it was started, and kept.
        flow: What happens to the server's bytes; may be changed at any time.
    """

    def __init__(self, port: int, faults: Counter[str] | None = None) -> None:
        self._target_port = port
        self._faults = faults if faults is not None else Counter()
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.flow = Flow()

    def __repr__(self) -> str:
        state = "frozen" if not self._thawed.is_set() else "refusing" if self._server is None else "open"
        return f"<TcpProxy {self.port} -> {self._target_port}: {state}, {len(self._links)} ends>"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        await self.refuse()
        await asyncio.gather(*self._tasks)

    async def accept(self) -> None:
        """Listen, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._take, _HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Reset all connections, and refuse new ones until `accept`."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.reset()

    def reset(self) -> None:
        """Reset all connections that there are; new ones are welcome."""
        self._faults["connections reset"] += bool(self._links)
        for end in list(self._links):
            reset(end.transport)

    def freeze(self) -> None:
        """Pass nothing on and close nothing, as a cable that was pulled, until `thaw`."""
        self._faults["network frozen"] += 1
        self._thawed.clear()

    def thaw(self) -> None:
        """Pass on again, what was held back first."""
        self._thawed.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there = await asyncio.open_connection(_HOST, self._target_port)
        except OSError:
            reset(writer.transport)
            return
        ends = {writer, there[1]}
        self._links |= ends
        try:
            with suppress(OSError):
                await _first_of(self._carry(reader, there[1]), self._carry_back(there[0], writer))
        finally:
            self._links -= ends
            for end in ends:
                end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            await self._thawed.wait()
            writer.write(piece)
            await writer.drain()

    async def _carry_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed_bytes = 0
        while piece := await reader.read(_PIECE_BYTES if self.flow.drip is None else self.flow.drip[0]):
            flow = self.flow
            await asyncio.sleep(flow.drip[1] if flow.drip else flow.delay_seconds)
            await self._thawed.wait()
            passed = self._spoilt(piece, passed_bytes)
            writer.write(passed)
            await writer.drain()
            passed_bytes += len(passed)
            if flow.cut_after_bytes is not None and passed_bytes >= flow.cut_after_bytes:
                self._faults["connection cut"] += 1
                reset(writer.transport)
                return

    def _spoilt(self, piece: bytes, offset: int) -> bytes:
        flow = self.flow
        if flow.flip_at is not None and offset <= flow.flip_at < offset + len(piece):
            at, flow.flip_at = flow.flip_at - offset, None
            self._faults["bit flipped"] += 1
            piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        return piece if flow.cut_after_bytes is None else piece[: max(0, flow.cut_after_bytes - offset)]


def reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection by RST, as a peer that crashed: what is under way is lost."""
    if isinstance(transport, asyncio.WriteTransport):
        with suppress(OSError):  # it is closed already
            # Lingering for no time at all is how a socket is told to send RST (socket(7)).
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        transport.abort()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    """Run both ways of a connection until one of them is over."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
