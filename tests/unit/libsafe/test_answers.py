import json
from datetime import UTC, datetime, timedelta

import pytest

from worker.libsafe.answers import pause_seconds, result_of, retry_after_seconds
from worker.libsafe.errors import (
    LibsafeError,
    NotAuthorizedError,
    NotFoundError,
    NotPermittedError,
    PlatformBusyError,
    RejectedError,
    WrongAnswerError,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
KEY = "the-key-itself"


def _judge(status: int, body: object) -> object:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return result_of(status, content, asked="GET http://h/api/job/1", secret=KEY)


@pytest.mark.parametrize("result", [{"id": "1"}, [], [1], 0, "", None])
def test_the_result_of_the_envelope_is_the_answer(result: object) -> None:
    """Whatever the result is, it is given as it came."""
    assert _judge(200, {"success": True, "result": result, "msg": ""}) == result


def test_an_envelope_without_a_result_has_none() -> None:
    """A report's answer may say no more than that it went well."""
    assert _judge(201, {"success": True}) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, WrongAnswerError),
        (302, WrongAnswerError),
        (307, WrongAnswerError),
        (400, RejectedError),
        (401, NotAuthorizedError),
        (403, NotPermittedError),
        (404, NotFoundError),
        (405, RejectedError),
        (408, PlatformBusyError),
        (409, RejectedError),
        (422, RejectedError),
        (425, PlatformBusyError),
        (429, PlatformBusyError),
        (499, RejectedError),
        (500, PlatformBusyError),
        (503, PlatformBusyError),
        (599, PlatformBusyError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", {"success": False, "msg": "so it is"}, {"success": True}])
def test_a_status_has_one_meaning_whatever_the_body(
    status: int, error: type[LibsafeError], body: object
) -> None:
    """The status goes before the envelope."""
    with pytest.raises(error) as caught:
        _judge(status, body)

    assert type(caught.value) is error
    assert "GET http://h/api/job/1" in str(caught.value)


def test_success_false_with_status_200_is_a_refusal_with_the_platforms_message() -> None:
    """The vendor's clients see failures with status 200."""
    with pytest.raises(RejectedError, match="this job has ended") as caught:
        _judge(200, {"success": False, "msg": "this job has ended"})

    assert caught.value.platform_message == "this job has ended"


@pytest.mark.parametrize(
    "envelope", [{"success": False}, {"success": False, "msg": None}, {"success": False, "msg": 5}]
)
def test_a_refusal_may_lack_a_message(envelope: object) -> None:
    """`msg` may be missing."""
    with pytest.raises(RejectedError, match="it gave no reason") as caught:
        _judge(200, envelope)

    assert caught.value.platform_message is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>maintenance</html>",
        b"\xff",
        b"[" * 200_000,
        b"null",
        [],
        {},
        {"result": 1},
        {"success": "true"},
        {"success": 1},
    ],
)
def test_an_answer_without_the_envelope_is_a_wrong_answer(body: object) -> None:
    """What does not say whether it succeeded has not succeeded."""
    with pytest.raises(WrongAnswerError):
        _judge(200, body)


def test_a_key_that_the_platform_repeats_is_blanked() -> None:
    """The platform's message goes into logs and other messages."""
    with pytest.raises(NotAuthorizedError) as caught:
        _judge(401, {"success": False, "msg": f"unknown key {KEY}"})

    assert KEY not in str(caught.value)
    assert "unknown key **********" in str(caught.value)


def test_an_endless_message_is_cut() -> None:
    """A message is bounded, also the platform's."""
    with pytest.raises(RejectedError) as caught:
        _judge(400, {"success": False, "msg": "x" * 501})

    assert caught.value.platform_message == "x" * 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("9" * 10, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 11:59:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """Both forms of RFC 9110 are read; anything else is as none."""
    assert retry_after_seconds(header, NOW) == seconds


def test_a_date_is_counted_from_now() -> None:
    """The clock is given, not taken."""
    assert retry_after_seconds("Sun, 22 Nov 2026 12:00:30 GMT", NOW + timedelta(seconds=10)) == 20.0


@pytest.mark.parametrize(
    ("attempt", "share", "asked_for_seconds", "pause"),
    [
        (1, 0.0, None, 0.0),
        (1, 1.0, None, 0.5),
        (2, 1.0, None, 1.0),
        (4, 0.5, None, 2.0),
        (7, 1.0, None, 30.0),
        (10_000, 1.0, None, 30.0),
        (1, 1.0, 10.0, 10.0),
        (1, 0.0, 30.0, 30.0),
        (6, 1.0, 3.0, 16.0),
        (1, 0.0, 30.1, None),
    ],
)
def test_a_pause_is_random_and_doubles_and_is_never_less_than_asked_for(
    attempt: int, share: float, asked_for_seconds: float | None, pause: float | None
) -> None:
    """Full jitter up to the longest pause; a longer wish of the platform ends the attempts."""
    decided = pause_seconds(
        attempt, asked_for_seconds=asked_for_seconds, first_seconds=0.5, longest_seconds=30.0, share=share
    )

    assert decided == pause
