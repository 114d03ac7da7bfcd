"""Decide what an answer of the jobs API means; nothing here waits or sends."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from worker.libsafe.errors import (
    LibsafeError,
    NotAuthorizedError,
    NotFoundError,
    NotPermittedError,
    PlatformBusyError,
    RejectedError,
    WrongAnswerError,
)

# 408 and 425 ask for the same request again (RFC 9110, section 15.5.9; RFC 8470, section 5.2).
_BUSY_STATUSES = frozenset({408, 425, 429})
# Enough for a reason, too short for a page of HTML in a log.
_MAX_MESSAGE_CHARACTERS = 500
_PERMANENT: Mapping[int, tuple[type[LibsafeError], str]] = {
    401: (NotAuthorizedError, "The platform does not accept the key for {asked}{because}; renew the key."),
    403: (
        NotPermittedError,
        "The platform does not let this key do {asked}{because}; check what its user may do.",
    ),
    404: (
        NotFoundError,
        "The platform found nothing for {asked}{because}; check the id, or the routes if all calls fail.",
    ),
}


def result_of(
    status: int, body: bytes, *, asked: str, secret: str, retry_after_seconds: float | None = None
) -> object:
    """Take the result out of an answer, or raise what the answer means.

    Args:
        status: The HTTP status.
        body: The whole body; the envelope ``{"success", "result", "msg"}`` is expected in it.
        asked: What was asked, like ``PUT http://…/api/job/299``, for the error's text.
        secret: The key, to be blanked where the platform repeats it.
        retry_after_seconds: What the header Retry-After asks for.

    Returns:
        The envelope's ``result``; None where the answer has none.

    Raises:
        LibsafeError: One of its children; a 200 with ``"success": false`` is a `RejectedError`.
    """
    envelope = _envelope(body)
    said = _platform_message(envelope, secret)
    error = _error_of(status, asked, said, retry_after_seconds)
    if error is not None:
        raise error
    if envelope is None or not isinstance(envelope.get("success"), bool):
        raise WrongAnswerError(
            f"The answer to {asked} is not the platform's JSON envelope; check that api.url is the platform."
        )
    if not envelope["success"]:
        raise _rejected(asked, "success: false", said)
    return envelope.get("result")


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, section 10.2.3); None when absent or unreadable."""
    if header is None:
        return None
    text = header.strip()
    # More than nine digits, some thirty years, is no wish that anybody has.
    if text.isascii() and text.isdecimal() and len(text) <= 9:  # noqa: PLR2004 - the comment above tells it
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # "-0000" means UTC as well, and gives a moment without a zone.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def pause_seconds(
    attempt: int,
    *,
    asked_for_seconds: float | None,
    first_seconds: float,
    longest_seconds: float,
    share: float,
) -> float | None:
    """Decide how long to wait before the next attempt: full jitter, but never less than Retry-After.

    Args:
        attempt: How many attempts were made, from 1.
        asked_for_seconds: What the platform asked for, if it did.
        first_seconds: The longest pause after the first attempt; it doubles with each.
        longest_seconds: No pause is longer.
        share: A random number from 0 to 1. The whole pause is random, so that workers that failed together do
            not come back together.

    Returns:
        The pause, or None when the platform asked for more than `longest_seconds`: knocking earlier would not
        honour it, and the caller has better things to do than to wait so long.
    """
    asked = asked_for_seconds or 0.0
    if asked > longest_seconds:
        return None
    return max(asked, share * min(longest_seconds, first_seconds * 2.0 ** min(attempt - 1, 30)))


def _envelope(body: bytes) -> Mapping[str, object] | None:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return envelope if isinstance(envelope, dict) else None


def _platform_message(envelope: Mapping[str, object] | None, secret: str) -> str | None:
    message = envelope.get("msg") if envelope else None
    if not isinstance(message, str) or not message:
        return None
    return message.replace(secret, "**********")[:_MAX_MESSAGE_CHARACTERS]


def _error_of(
    status: int, asked: str, said: str | None, retry_after_seconds: float | None
) -> LibsafeError | None:
    because = f" ({status}: {said})" if said else f" ({status})"
    if status in _BUSY_STATUSES or status >= 500:  # noqa: PLR2004 - HTTP's own number
        return PlatformBusyError(
            f"The platform could not do {asked} now{because}; try again later.",
            retry_after_seconds=retry_after_seconds,
        )
    if status in _PERMANENT:
        error, text = _PERMANENT[status]
        return error(text.format(asked=asked, because=because))
    if status >= 400:  # noqa: PLR2004 - HTTP's own number
        return _rejected(asked, str(status), said)
    if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return WrongAnswerError(
            f"The platform sent us elsewhere from {asked} ({status}), where no key is sent; correct api.url."
        )
    return None


def _rejected(asked: str, how: str, said: str | None) -> RejectedError:
    reason = said or "it gave no reason"
    return RejectedError(
        f"The platform refused {asked} ({how}): {reason}; correct what was asked.", platform_message=said
    )
