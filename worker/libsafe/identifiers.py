"""The platform's ids: opaque text for us, though it sends some of them as numbers."""

from typing import Annotated

from pydantic import BeforeValidator

MAX_CHARACTERS = 255
"""The longest id: it becomes part of addresses and of names in the broker."""


def identifier(value: object) -> str:
    """Take an id as text.

    Raises:
        ValueError: Neither text nor a whole number, empty, too long, or with characters that fit in no
            address and no header.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be text or a whole number")  # noqa: TRY004 - pydantic collects ValueErrors only
    text = str(value)
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"must not be longer than {MAX_CHARACTERS} characters")
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


def _optional_identifier(value: object) -> str | None:
    return None if value is None or value == "" else identifier(value)


Identifier = Annotated[str, BeforeValidator(identifier)]
OptionalIdentifier = Annotated[str | None, BeforeValidator(_optional_identifier)]
