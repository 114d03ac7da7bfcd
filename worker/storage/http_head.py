"""The head of an HTTP/1.1 answer and the chunks of its body (RFC 9112), strictly: a doubt is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?", re.ASCII)
_HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
# A chunk's first line, and all lines after the last chunk: nobody who means well writes longer ones.
_MOST_LINE_BYTES = 8 * 1024


class MalformedAnswerError(Exception):
    """The bytes are no answer of HTTP/1.1, or one that may be read in two ways."""


class UnsupportedAnswerError(Exception):
    """The answer may be right, but we read no such answers here."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer.

    Args:
        status: From 200.
        headers: By their names in lower case; the values of one that came twice are joined by a comma.
        length_bytes: Of the body; None if it comes in chunks, or ends with the connection.
        is_chunked: The body comes in chunks.
        keeps_alive: The connection may be used again when the body was read to its end.
    """

    status: int
    headers: dict[str, str]
    length_bytes: int | None
    is_chunked: bool
    keeps_alive: bool


def parse_head(head: bytes) -> Head:
    """Read the head of an answer to GET.

    Args:
        head: Without the empty line at its end.

    Raises:
        MalformedAnswerError: It is none, or does not say clearly where the body ends.
        UnsupportedAnswerError: An interim answer (1xx), or a transfer coding other than chunked.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise MalformedAnswerError("no status line")
    is_http_1_1, status = match[1] == "1", int(match[2])
    if status < HTTPStatus.OK:
        raise UnsupportedAnswerError(f"an interim answer, status {status}")
    headers = _headers(lines)
    coding = headers.get("transfer-encoding")
    length_bytes = _length_bytes(status, headers)
    if coding is not None and (length_bytes is not None or not is_http_1_1):
        raise MalformedAnswerError("a Transfer-Encoding where none may be")
    if coding is not None and coding.lower() != "chunked":
        raise UnsupportedAnswerError("a transfer coding other than chunked")
    is_chunked = coding is not None
    return Head(
        status=status,
        headers=headers,
        length_bytes=length_bytes,
        is_chunked=is_chunked,
        keeps_alive=is_http_1_1
        and (is_chunked or length_bytes is not None)
        and "close" not in headers.get("connection", "").lower(),
    )


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER_LINE.fullmatch(line)
        if match is None or "\0" in line or "\r" in line:  # the pattern's dot stops at \n only
            raise MalformedAnswerError("a line that is no header")
        name, value = match[1].lower(), match[2]
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length_bytes(status: int, headers: dict[str, str]) -> int | None:
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        return 0
    text = headers.get("content-length")
    if text is None:
        return None
    # Also refuses two that differ, which name two ends of one body.
    if not _LENGTH.fullmatch(text):
        raise MalformedAnswerError("a Content-Length that is no number")
    return int(text)


class ChunkedBody:
    """Takes the chunks of a body apart.

    Attributes:
        is_whole: The last chunk has come.
        has_extra: Bytes came behind it.
    """

    def __init__(self) -> None:
        self.is_whole = False
        self.has_extra = False
        self._unread = bytearray()
        self._chunk_bytes = 0  # of the present chunk, those still to come
        self._wants_line_end = False
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """Give what of the body these bytes hold; after the last chunk, nothing.

        Raises:
            MalformedAnswerError: They are no chunks.
        """
        self._unread += data
        pieces = []
        while not self.is_whole:
            if self._chunk_bytes:
                piece = bytes(self._unread[: self._chunk_bytes])
                del self._unread[: len(piece)]
                self._chunk_bytes -= len(piece)
                pieces.append(piece)
                if self._chunk_bytes:
                    break
                self._wants_line_end = True
            line = self._next_line()
            if line is None:
                break
            self._take_line(line)
        self.has_extra = self.is_whole and bool(self._unread)
        return b"".join(pieces)

    def _next_line(self) -> bytes | None:
        end = self._unread.find(b"\r\n")
        if max(end, 0 if end >= 0 else len(self._unread)) > _MOST_LINE_BYTES:
            raise MalformedAnswerError("a chunk's line that does not end")
        if end < 0:
            return None
        line = bytes(self._unread[:end])
        del self._unread[: end + 2]
        return line

    def _take_line(self, line: bytes) -> None:
        """There are three cases: the end behind a chunk, a line behind the last one, a chunk's size."""
        if self._wants_line_end:
            if line:
                raise MalformedAnswerError("a chunk that is longer than it says")
            self._wants_line_end = False
        elif self._in_trailer:
            self.is_whole = not line
        else:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise MalformedAnswerError("a chunk without a size")
            self._chunk_bytes = int(match[1], 16)
            self._in_trailer = not self._chunk_bytes
