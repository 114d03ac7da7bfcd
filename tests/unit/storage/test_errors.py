from __future__ import annotations

import pickle

import pytest

from worker.storage import errors

KINDS = [
    *errors.PermanentStorageError.__subclasses__(),
    *errors.CredentialsError.__subclasses__(),
    *errors.TransientStorageError.__subclasses__(),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detail", ["", "what was seen"])
def test_an_error_tells_people_which_object_and_what_was_seen_in_one_sentence(
    kind: type[errors.StorageError], detail: str
) -> None:
    """Every error names the object as s3://bucket/key, braces in its key included."""
    text = str(kind("s3://bucket/{where} {0}", detail))

    assert "s3://bucket/{where} {0}" in text
    assert detail in text
    assert text.endswith(".")
    assert "." not in text.removesuffix(".")


def test_codes_are_stable_and_each_is_of_one_error() -> None:
    """Reports and counts go by these codes."""
    codes = [kind.code for kind in KINDS]

    assert codes == [
        "invalid_address",
        "endpoint_not_allowed",
        "no_such_object",
        "no_such_bucket",
        "access_denied",
        "credentials_refused",
        "changed_while_reading",
        "offline",
        "wrong_storage_answer",
        "credentials_expired",
        "storage_unreachable",
        "storage_busy",
        "storage_failed",
        "read_stalled",
    ]


def test_an_error_survives_the_way_between_processes() -> None:
    """An exception that cannot be pickled would hide what happened."""
    error = pickle.loads(pickle.dumps(errors.NoSuchObjectError("s3://bucket/key", "status 404")))  # noqa: S301 - our own bytes

    assert isinstance(error, errors.NoSuchObjectError)
    assert (error.where, error.detail) == ("s3://bucket/key", "status 404")


def test_expired_credentials_are_named_as_such() -> None:
    """Whoever reads it must know that the keys were right, and what to do."""
    error = errors.CredentialsExpiredError("s3://bucket/key", "ExpiredToken, status 400")

    assert str(error).startswith("The credentials used for s3://bucket/key have expired (ExpiredToken,")
    assert "new S3 credentials" in str(error)
