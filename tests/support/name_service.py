"""A name service of a test's own, and a server that sees who connects and what is said."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


@dataclass
class NameService:
    """Answers for the names that it knows instead of the system's; each answer once, the last one for good.

    Attributes:
        answers: For each name, one list of addresses after the other.
        asked: The names, in the order in which they were asked for.
    """

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> NameService:
        """Take the place of the system's name service until the test ends."""
        ask_the_system = socket.getaddrinfo

        def answer(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
            if host not in self.answers:
                return ask_the_system(host, port, *more, **options)
            self.asked.append(host)
            left = self.answers[host]
            addresses = left.pop(0) if len(left) > 1 else left[0]
            return [entry for one in addresses for entry in ask_the_system(one, port, *more, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        return self


@dataclass
class Listener:
    """Keeps who came and what was said; it answers nothing.

    Attributes:
        port: On 127.0.0.1.
        connections: How many there were.
        heard: All bytes of all connections.
    """

    port: int = 0
    connections: int = 0
    heard: bytearray = field(default_factory=bytearray)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Listen to one connection for a moment, then close it."""
        self.connections += 1
        self.heard += await reader.read(65_536)
        writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """Run a listener on a free port."""
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener
