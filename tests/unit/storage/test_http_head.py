from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.http_head import (
    ChunkedBody,
    Head,
    MalformedAnswerError,
    UnsupportedAnswerError,
    parse_head,
)


def head_of(*lines: str) -> Head:
    """Parse these lines."""
    return parse_head("\r\n".join(lines).encode("latin-1"))


def test_a_plain_head_is_read() -> None:
    """Names in lower case, values without the blanks around them; the reason phrase may be empty."""
    head = head_of("HTTP/1.1 206 Partial Content", 'ETag:  "a" \t', "CONTENT-LENGTH: 5", "x-empty:")

    assert head == Head(206, {"etag": '"a"', "content-length": "5", "x-empty": ""}, 5, False, True)  # noqa: FBT003 - as the class has them
    assert head_of("HTTP/1.1 200", "Content-Length: 0").length_bytes == 0


def test_a_header_that_comes_twice_is_joined() -> None:
    """As RFC 9110, 5.3 says."""
    assert head_of("HTTP/1.1 200 OK", "a: 1", "A: 2").headers == {"a": "1, 2"}


@pytest.mark.parametrize(
    ("lines", "keeps_alive"),
    [
        (["HTTP/1.1 200 OK", "Content-Length: 1"], True),
        (["HTTP/1.1 200 OK", "Transfer-Encoding: Chunked"], True),
        (["HTTP/1.1 204 No Content"], True),
        (["HTTP/1.1 200 OK", "Content-Length: 1", "Connection: Close"], False),
        (["HTTP/1.1 200 OK"], False),
        (["HTTP/1.0 200 OK", "Content-Length: 1"], False),
    ],
)
def test_a_connection_is_kept_only_behind_a_body_whose_end_is_told(
    lines: list[str], *, keeps_alive: bool
) -> None:
    """And not if the server says close, or speaks HTTP/1.0."""
    assert head_of(*lines).keeps_alive is keeps_alive


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["ICY 200 OK"],
        ["HTTP/2 200 OK"],
        ["HTTP/1.1 2000 OK"],
        ["HTTP/1.1 20x OK"],
        ["HTTP/1.1 ٢٠٦ OK".encode().decode("latin-1")],
        ["HTTP/1.1 200 OK", ""],
        ["HTTP/1.1 200 OK", "no colon"],
        ["HTTP/1.1 200 OK", "blank : before the colon"],
        ["HTTP/1.1 200 OK", "a: 1", " folded"],
        ["HTTP/1.1 200 OK", ": no name"],
        ["HTTP/1.1 200 OK", "a: 1\nb: 2"],
        ["HTTP/1.1 200 OK", "a: 1\rb: 2"],
        ["HTTP/1.1 200 OK", "a: \0"],
        ["HTTP/1.1 200 OK", "Content-Length: -1"],
        ["HTTP/1.1 200 OK", "Content-Length: 1_0"],
        ["HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 2"],
        ["HTTP/1.1 200 OK", "Content-Length: " + "9" * 19],
        ["HTTP/1.1 200 OK", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"],
    ],
)
def test_a_head_that_may_be_read_in_two_ways_is_an_error(lines: list[str]) -> None:
    """A doubt about where a body ends would put a stranger's bytes into a digest."""
    with pytest.raises(MalformedAnswerError):
        head_of(*lines)


@pytest.mark.parametrize(
    "lines", [["HTTP/1.1 100 Continue"], ["HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"]]
)
def test_an_answer_of_a_kind_that_we_do_not_read_is_told_from_a_wrong_one(lines: list[str]) -> None:
    """Somebody else may know it."""
    with pytest.raises(UnsupportedAnswerError):
        head_of(*lines)


@given(data=st.data(), body=st.binary(max_size=300))
def test_chunks_are_the_body_however_they_are_cut(data: st.DataObject, body: bytes) -> None:
    """Into chunks by the server, and into pieces on the way."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
    sent = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    sent += b"0\r\nTrailer: 1\r\n\r\n"
    steps = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=9)))
    decoder = ChunkedBody()

    pieces = [decoder.feed(sent[a:b]) for a, b in zip([0, *steps], [*steps, len(sent)], strict=True)]

    assert b"".join(pieces) == body
    assert decoder.is_whole
    assert not decoder.has_extra


def test_bytes_behind_the_last_chunk_are_not_of_the_body() -> None:
    """Whose they are nobody knows."""
    decoder = ChunkedBody()

    assert decoder.feed(b"1\r\na\r\n0\r\n\r\nb") == b"a"
    assert decoder.is_whole
    assert decoder.has_extra


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"1 a\r\n",
        b"1\nab\r\n",
        b"1\r\nab\r\n",
        b"1" * 16 + b"\r\n",
        b"1" * 10_000,
        b"1;" + b"x" * 10_000 + b"\r\n",
        b"0\r\n" + b"x" * 10_000,
    ],
)
def test_what_is_no_chunk_is_an_error(sent: bytes) -> None:
    """Also a line that never ends."""
    with pytest.raises(MalformedAnswerError):
        ChunkedBody().feed(sent)
