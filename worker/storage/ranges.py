"""Ranges: what is asked for, what the answer must be, and what it pins (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.storage.errors import ObjectChangedError, WrongAnswerError
from worker.storage.object_version import ObjectAddress, ObjectVersion, check_etag

_OK = 200
_PARTIAL_CONTENT = 206
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """The head of an answer to a ranged GET; None stands for a header that is not there."""

    status: int
    etag: str | None
    version_id: str | None
    content_range: str | None
    length_bytes: int | None
    storage_class: str | None = None


def range_header(start: int, length: int) -> str:
    """Write the Range header that asks for `length` (at least one) bytes from `start`."""
    return f"bytes={start}-{start + length - 1}"


def pinned_by(address: ObjectAddress, most_bytes: int, answer: RangeAnswer) -> ObjectVersion:
    """Make the object version of the answer to a GET of the first `most_bytes`, which no If-Match bound.

    An empty object has no first byte: a server that ignores the Range then says 200 and a length of 0.

    Raises:
        WrongAnswerError: It is of another version than the address names, not of the bytes asked for, or has
            no strong ETag.
    """
    named = address.version_id
    if named is not None and answer.version_id not in {None, named}:
        raise WrongAnswerError(str(address), "another version id")
    is_empty = answer.status == _OK and answer.length_bytes == 0
    size_bytes = 0 if is_empty else _content_range(str(address), answer)[2]
    version = ObjectVersion(
        address=ObjectAddress(address.bucket, address.key, named or answer.version_id),
        etag=check_etag(address, answer.etag),
        size_bytes=size_bytes,
        storage_class=answer.storage_class or "STANDARD",
    )
    if not is_empty:
        check_answer(version, 0, min(most_bytes, size_bytes), answer)
    return version


def check_answer(version: ObjectVersion, start: int, length: int, answer: RangeAnswer) -> None:
    """Let an answer through only if its body is the range of the pinned version that was asked for.

    Raises:
        ObjectChangedError: It is of another version: another ETag, version id or size.
        WrongAnswerError: It is not 206, or it is of other bytes than those asked for.
    """
    where = str(version.address)
    first, last, size_bytes = _content_range(where, answer)
    if answer.etag not in {None, version.etag}:
        raise ObjectChangedError(where, "another ETag")
    if version.address.version_id is not None and answer.version_id not in {None, version.address.version_id}:
        raise ObjectChangedError(where, "another version id")
    if size_bytes != version.size_bytes:
        raise ObjectChangedError(where, f"{size_bytes} bytes instead of {version.size_bytes}")
    if (first, last) != (start, start + length - 1):
        raise WrongAnswerError(where, f"bytes {first}-{last} instead of {start}-{start + length - 1}")
    if answer.length_bytes not in {None, length}:
        raise WrongAnswerError(where, f"{answer.length_bytes} bytes instead of {length}")


def _content_range(where: str, answer: RangeAnswer) -> tuple[int, int, int]:
    """Read which bytes of how many an answer brings."""
    if answer.status != _PARTIAL_CONTENT:
        raise WrongAnswerError(where, f"status {answer.status} instead of {_PARTIAL_CONTENT}")
    match = _CONTENT_RANGE.fullmatch(answer.content_range or "")
    if match is None:
        raise WrongAnswerError(where, "no Content-Range that can be read")
    first, last, size_bytes = map(int, match.groups())
    return first, last, size_bytes
