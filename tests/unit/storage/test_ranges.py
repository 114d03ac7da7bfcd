from __future__ import annotations

from dataclasses import replace

import pytest

from worker.storage.errors import ObjectChangedError, StorageError, WrongAnswerError
from worker.storage.object_version import ObjectAddress, ObjectVersion
from worker.storage.ranges import RangeAnswer, check_answer, pinned_by, range_header

VERSION = ObjectVersion(ObjectAddress("b", "k", "v1"), etag='"e"', size_bytes=20)
RIGHT = RangeAnswer(status=206, etag='"e"', version_id="v1", content_range="bytes 8-15/20", length_bytes=8)


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


ADDRESS = ObjectAddress("b", "k")
FIRST = RangeAnswer(status=206, etag='"e"', version_id=None, content_range="bytes 0-7/20", length_bytes=8)
WHOLE = replace(FIRST, content_range="bytes 0-4/5", length_bytes=5)


@pytest.mark.parametrize(
    ("answer", "size_bytes"),
    [
        (FIRST, 20),
        (WHOLE, 5),
        (replace(FIRST, content_range="bytes 0-7/8"), 8),
        (replace(WHOLE, length_bytes=None), 5),
        (replace(FIRST, status=200, content_range=None, length_bytes=0), 0),
    ],
)
def test_the_first_range_tells_the_size_of_the_object(answer: RangeAnswer, size_bytes: int) -> None:
    """Longer than the range, shorter, as long; and an empty object, of which some servers send all."""
    assert pinned_by(ADDRESS, 8, answer) == ObjectVersion(ADDRESS, '"e"', size_bytes)


def test_the_first_range_tells_version_id_and_storage_class() -> None:
    """Where the storage keeps versions the very one is asked for from then on."""
    answer = replace(FIRST, version_id="v1", storage_class="GLACIER_IR")

    assert pinned_by(ADDRESS, 8, answer) == ObjectVersion(
        ObjectAddress("b", "k", "v1"), '"e"', 20, "GLACIER_IR"
    )
    assert pinned_by(ObjectAddress("b", "k", "v1"), 8, FIRST).address.version_id == "v1"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (replace(FIRST, status=200, length_bytes=20), WrongAnswerError),
        (replace(FIRST, status=200, length_bytes=None), WrongAnswerError),
        (replace(FIRST, status=206, content_range=None, length_bytes=0), WrongAnswerError),
        (replace(FIRST, etag=None), WrongAnswerError),
        (replace(FIRST, etag='W/"e"'), WrongAnswerError),
        (replace(WHOLE, etag='W/"e"'), WrongAnswerError),
        (replace(FIRST, content_range="bytes 0-7/*"), WrongAnswerError),
        (replace(FIRST, content_range="bytes 1-8/20"), WrongAnswerError),
        (replace(FIRST, content_range="bytes 0-6/20", length_bytes=7), WrongAnswerError),
        (replace(FIRST, content_range="bytes 0-8/20", length_bytes=9), WrongAnswerError),
        (replace(FIRST, content_range="bytes 0-7/7"), WrongAnswerError),
        (replace(FIRST, content_range="bytes 0-7/0"), WrongAnswerError),
        (replace(FIRST, length_bytes=9), WrongAnswerError),
        (replace(FIRST, version_id="v2"), WrongAnswerError),
        (replace(FIRST, status=200, length_bytes=0, version_id="v2"), WrongAnswerError),
    ],
)
def test_a_wrong_first_answer_pins_nothing(answer: RangeAnswer, error: type[StorageError]) -> None:
    """Other bytes, no strong ETag (even where one range is all), or another version than the one named."""
    with pytest.raises(error, match="s3://b/k"):
        pinned_by(ObjectAddress("b", "k", "v1"), 8, answer)
