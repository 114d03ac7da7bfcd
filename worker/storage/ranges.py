"""Ranges: how an object is cut, what is asked for, and what the answer must be (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.storage.errors import ObjectChangedError, WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.storage.object_version import ObjectVersion

_PARTIAL_CONTENT = 206
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """The head of an answer to a ranged GET; None stands for a header that is not there."""

    status: int
    etag: str | None
    version_id: str | None
    content_range: str | None
    length_bytes: int | None


def plan_ranges(size_bytes: int, range_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut an object into ranges, in order, without gap or overlap.

    Args:
        size_bytes: Of the object; 0 gives no range at all, since a Range on an empty object is answered 416.
        range_bytes: Of every range but the last, which may be shorter.

    Returns:
        The start and the length of each range.

    Raises:
        ValueError: A negative size, or a range of less than one byte.
    """
    if size_bytes < 0 or range_bytes < 1:
        raise ValueError(f"no ranges of {range_bytes} bytes in an object of {size_bytes} bytes")
    return ((start, min(range_bytes, size_bytes - start)) for start in range(0, size_bytes, range_bytes))


def range_header(start: int, length: int) -> str:
    """Write the Range header that asks for `length` (at least one) bytes from `start`."""
    return f"bytes={start}-{start + length - 1}"


def check_answer(version: ObjectVersion, start: int, length: int, answer: RangeAnswer) -> None:
    """Let an answer through only if its body is the range of the pinned version that was asked for.

    Raises:
        ObjectChangedError: It is of another version: another ETag, version id or size.
        WrongAnswerError: It is not 206, or it is of other bytes than those asked for.
    """
    where = str(version.address)
    if answer.status != _PARTIAL_CONTENT:
        raise WrongAnswerError(where, f"status {answer.status} instead of {_PARTIAL_CONTENT}")
    if answer.etag not in {None, version.etag}:
        raise ObjectChangedError(where, "another ETag")
    if version.address.version_id is not None and answer.version_id not in {None, version.address.version_id}:
        raise ObjectChangedError(where, "another version id")
    match = _CONTENT_RANGE.fullmatch(answer.content_range or "")
    if match is None:
        raise WrongAnswerError(where, "no Content-Range that can be read")
    first, last, size_bytes = map(int, match.groups())
    if size_bytes != version.size_bytes:
        raise ObjectChangedError(where, f"{size_bytes} bytes instead of {version.size_bytes}")
    if (first, last) != (start, start + length - 1):
        raise WrongAnswerError(where, f"bytes {first}-{last} instead of {start}-{start + length - 1}")
    if answer.length_bytes not in {None, length}:
        raise WrongAnswerError(where, f"{answer.length_bytes} bytes instead of {length}")
