from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.errors import ObjectChangedError, StorageError, WrongAnswerError
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.ranges import RangeAnswer, check_answer, plan_ranges, range_header

VERSION = ObjectVersion(ObjectAddress("b", "k", "v1"), etag='"e"', size_bytes=20)
RIGHT = RangeAnswer(status=206, etag='"e"', version_id="v1", content_range="bytes 8-15/20", length_bytes=8)


@pytest.mark.parametrize(
    ("size_bytes", "ranges"),
    [
        (0, []),
        (1, [(0, 1)]),
        (7, [(0, 7)]),
        (8, [(0, 8)]),
        (9, [(0, 8), (8, 1)]),
        (16, [(0, 8), (8, 8)]),
        (17, [(0, 8), (8, 8), (16, 1)]),
    ],
)
def test_an_object_is_cut_at_every_range(size_bytes: int, ranges: list[tuple[int, int]]) -> None:
    """Only the last range may be shorter, and an empty object has none."""
    assert list(plan_ranges(size_bytes, 8)) == ranges


@given(size_bytes=st.integers(0, 5000), range_bytes=st.integers(1, 300))
def test_ranges_cover_each_byte_once(size_bytes: int, range_bytes: int) -> None:
    """No gap, no overlap, no empty range."""
    ranges = list(plan_ranges(size_bytes, range_bytes))

    assert [byte for start, length in ranges for byte in range(start, start + length)] == list(
        range(size_bytes)
    )
    assert all(0 < length <= range_bytes for _, length in ranges)


@pytest.mark.parametrize(("size_bytes", "range_bytes"), [(-1, 8), (8, 0), (8, -1)])
def test_an_impossible_cut_is_refused_at_once(size_bytes: int, range_bytes: int) -> None:
    """Not at the first iteration, where nobody would look for it."""
    with pytest.raises(ValueError, match="no ranges"):
        plan_ranges(size_bytes, range_bytes)


def test_a_range_header_names_the_last_byte() -> None:
    """Both ends are included (RFC 9110, 14.1.2)."""
    assert range_header(0, 1) == "bytes=0-0"
    assert range_header(8, 8) == "bytes=8-15"


@pytest.mark.parametrize(
    "answer", [RIGHT, replace(RIGHT, etag=None, version_id=None), replace(RIGHT, length_bytes=None)]
)
def test_the_range_that_was_asked_for_passes(answer: RangeAnswer) -> None:
    """Headers that repeat what If-Match and VersionId have already fixed may be missing."""
    check_answer(VERSION, 8, 8, answer)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (replace(RIGHT, status=200), WrongAnswerError),
        (replace(RIGHT, content_range=None), WrongAnswerError),
        (replace(RIGHT, content_range="bytes 8-15/*"), WrongAnswerError),
        (replace(RIGHT, content_range="8-15/20"), WrongAnswerError),
        (replace(RIGHT, content_range="bytes 0-7/20"), WrongAnswerError),
        (replace(RIGHT, content_range="bytes 8-14/20"), WrongAnswerError),
        (replace(RIGHT, length_bytes=7), WrongAnswerError),
        (replace(RIGHT, length_bytes=0), WrongAnswerError),
        (replace(RIGHT, content_range="bytes 8-15/21"), ObjectChangedError),
        (replace(RIGHT, etag='"f"'), ObjectChangedError),
        (replace(RIGHT, version_id="v2"), ObjectChangedError),
    ],
)
def test_any_other_answer_is_an_error_never_a_digest(answer: RangeAnswer, error: type[StorageError]) -> None:
    """Another version was changed while reading; other bytes are a wrong answer."""
    with pytest.raises(error, match="s3://b/k"):
        check_answer(VERSION, 8, 8, answer)
