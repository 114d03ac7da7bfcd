"""A connection for GET whose bodies go from the socket straight into the caller's memory."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from worker.storage.http_head import ChunkedBody, Head, MalformedAnswerError, parse_head

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD_END = b"\r\n\r\n"
# S3 allows 8 KiB of headers (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
_MOST_HEAD_BYTES = 32 * 1024


class Origin(NamedTuple):
    """Where connections lead."""

    is_tls: bool
    host: str
    port: int


class Receiver(Protocol):
    """Takes one answer."""

    def accept(self, head: Head) -> None:
        """Let the body in, or raise."""

    def room(self) -> memoryview:
        """Give the memory for the next bytes of the body; empty if there is none left."""

    def advance(self, length: int) -> None:
        """Take note that so many bytes have come there."""

    def overflow(self) -> None:
        """Raise if a body may not be longer than its room; or else the rest of it is not read."""


class ClosedBeforeAnswerError(ConnectionError):
    """The server closed the connection instead of answering."""


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()  # its length is known: it is received in place
    STREAM = auto()  # in chunks, or to the connection's end: copied


class Connection(asyncio.BufferedProtocol):
    """One kept connection; an exchange at a time.

    When `exchange` has ended, in whatever way, nothing writes into the receiver's memory any more: the event
    loop receives only into what `get_buffer` gives in the same turn.

    Attributes:
        idle_since: When its user put it aside, by the event loop's clock.
    """

    idle_since: float

    def __init__(self, origin: Origin, on_lost: Callable[[Connection], None]) -> None:
        self.origin = origin
        self._on_lost = on_lost
        self._lost = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport
        self._scratch = bytearray(_MOST_HEAD_BYTES)
        self._scratch_view = memoryview(self._scratch)
        self._state = _State.IDLE
        self._is_reusable = True
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._scratch_bytes = 0
        self._receiver: Receiver | None = None
        self._ended: asyncio.Future[None] | None = None
        self._keeps_alive = False
        self._unread_bytes = 0
        self._chunks: ChunkedBody | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another request may go this way: the last answer was read exactly to its end."""
        return self._is_reusable and self._state is _State.IDLE and not self._transport.is_closing()

    async def exchange(self, request: bytes, receiver: Receiver) -> None:
        """Send a request and hand its answer to the receiver; without an exception the answer is whole.

        Raises:
            ClosedBeforeAnswerError: No byte of an answer came.
            OSError: The connection broke.
            MalformedAnswerError: What came is no answer.
            UnsupportedAnswerError: It is one that we cannot read.
        """
        self._is_reusable = False
        self._receiver = receiver
        self._ended = asyncio.get_running_loop().create_future()
        self._state = _State.HEAD
        self._transport.write(request)
        try:
            await self._ended
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._state = _State.IDLE
            self._forget_answer()

    def close(self) -> None:
        """Close the connection; twice is fine."""
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; the event loop calls this."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess, -1 as a rule
        """Say where the next bytes go; the event loop calls this just before it receives."""
        if self._state is _State.BODY and self._receiver is not None:
            return self._receiver.room()[: self._unread_bytes]
        return self._scratch_view[self._scratch_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes that came there; the event loop calls this just after it received."""
        try:
            match self._state:
                case _State.BODY:
                    self._received_in_place(nbytes)
                case _State.HEAD:
                    self._scratch_bytes += nbytes
                    self._look_for_head(nbytes)
                case _State.STREAM:
                    self._received_to_copy(bytes(self._scratch_view[:nbytes]))
                case _State.IDLE:  # nobody asked: whatever it is, it would be taken for the next answer
                    self._transport.abort()
        except Exception as error:  # noqa: BLE001 - it is the caller's: the loop would log it and stop
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way; the event loop calls this once, last."""
        if self._state is _State.STREAM and self._chunks is None and exc is None:
            self._finish()
        elif self._state is _State.HEAD and not self._scratch_bytes:
            self._fail(ClosedBeforeAnswerError(str(exc or "the connection was closed instead of an answer")))
        elif self._state is not _State.IDLE:
            self._fail(exc or ConnectionError("the connection was closed within an answer"))
        self._lost.set_result(None)
        self._on_lost(self)

    # The way of an answer.

    def _look_for_head(self, news_bytes: int) -> None:
        search_from = max(0, self._scratch_bytes - news_bytes - len(_HEAD_END) + 1)
        end = self._scratch.find(_HEAD_END, search_from, self._scratch_bytes)
        if end < 0:
            if self._scratch_bytes == len(self._scratch):
                raise MalformedAnswerError(f"a head of more than {_MOST_HEAD_BYTES} bytes")
            return
        head = parse_head(bytes(self._scratch_view[:end]))
        early = bytes(self._scratch_view[end + len(_HEAD_END) : self._scratch_bytes])
        self._scratch_bytes = 0
        self._keeps_alive = head.keeps_alive
        assert self._receiver is not None
        self._receiver.accept(head)
        if head.length_bytes is None:
            self._state = _State.STREAM
            self._chunks = ChunkedBody() if head.is_chunked else None
            self._received_to_copy(early)
        else:
            self._state = _State.BODY
            self._unread_bytes = head.length_bytes
            self._keeps_alive &= len(early) <= head.length_bytes
            self._received_early(early[: head.length_bytes])

    def _received_early(self, early: bytes) -> None:
        """Take the beginning of a body that came along with its head."""
        self._copy(early)
        self._unread_bytes -= len(early)
        if self._state is _State.BODY:
            self._go_on_in_place()

    def _received_in_place(self, length: int) -> None:
        assert self._receiver is not None
        self._receiver.advance(length)
        self._unread_bytes -= length
        self._go_on_in_place()

    def _go_on_in_place(self) -> None:
        assert self._receiver is not None
        if not self._unread_bytes:
            self._finish()
        elif not self._receiver.room():
            self._stop_reading()

    def _received_to_copy(self, data: bytes) -> None:
        self._copy(data if self._chunks is None else self._chunks.feed(data))
        if self._chunks is not None and self._chunks.is_whole and self._state is _State.STREAM:
            self._keeps_alive &= not self._chunks.has_extra
            self._finish()

    def _copy(self, piece: bytes) -> None:
        assert self._receiver is not None
        room = self._receiver.room()
        length = min(len(piece), len(room))
        room[:length] = piece[:length]
        self._receiver.advance(length)
        if length < len(piece):
            self._stop_reading()

    def _stop_reading(self) -> None:
        assert self._receiver is not None
        self._receiver.overflow()
        self._keeps_alive = False
        self._finish()

    def _finish(self) -> None:
        self._state = _State.IDLE
        self._is_reusable = self._keeps_alive
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._state = _State.IDLE
        self._scratch_bytes = 0
        self._transport.abort()
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
