"""What can go wrong between an S3 storage and a slot.

StorageError
├── PermanentStorageError             trying again cannot help
│   ├── InvalidAddressError           invalid_address
│   ├── EndpointNotAllowedError       endpoint_not_allowed
│   ├── NoSuchObjectError             no_such_object
│   ├── NoSuchBucketError             no_such_bucket
│   ├── AccessDeniedError             access_denied
│   ├── CredentialsError              credentials_refused
│   │   └── CredentialsExpiredError   credentials_expired
│   ├── ObjectChangedError            changed_while_reading
│   │   └── NoSuchRangeError
│   ├── ObjectOfflineError            offline
│   └── WrongAnswerError              wrong_storage_answer
└── TransientStorageError             trying again may help
    ├── StorageUnreachableError       storage_unreachable
    ├── StorageBusyError              storage_busy
    ├── StorageFailedError            storage_failed
    └── ReadStalledError              read_stalled

A job's summary counts files by these codes: "1 storage busy".
"""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """An object could not be read; `str()` tells people which, why, and what to do.

    Args:
        where: The object as `s3://bucket/key`, or the bucket as `s3://bucket`.
        detail: What was seen, a few words without a full stop; never a secret.
    """

    code: ClassVar[str]
    sentence: ClassVar[str]

    def __init__(self, where: str, detail: str = "") -> None:
        super().__init__(where, detail)
        self.where = where
        self.detail = detail

    def __str__(self) -> str:
        seen = f" ({self.detail})" if self.detail else ""
        return self.sentence.format(where=self.where, seen=seen)


class PermanentStorageError(StorageError):
    """Trying again cannot help: something must be put right first."""


class TransientStorageError(StorageError):
    """Trying again may help: the storage, or the way to it, was not well."""


class InvalidAddressError(PermanentStorageError):
    """The text is not the address of an object."""

    code = "invalid_address"
    sentence = "{where} is not the address of an object{seen}: write s3://bucket/key."


class EndpointNotAllowedError(PermanentStorageError):
    """The endpoint is, or its name leads to, an address that no key is sent to."""

    code = "endpoint_not_allowed"
    sentence = (
        "No key is sent for {where}{seen}: correct the endpoint of that storage, or what the name service "
        "says of it."
    )


class NoSuchObjectError(PermanentStorageError):
    """The storage has no such key, or no such version of it."""

    code = "no_such_object"
    sentence = "There is no object {where}{seen}: see that its key and version are right."


class NoSuchBucketError(PermanentStorageError):
    """The storage has no such bucket."""

    code = "no_such_bucket"
    sentence = "There is no bucket for {where}{seen}: see that the bucket and the endpoint are right."


class AccessDeniedError(PermanentStorageError):
    """The storage knows the credentials, and they do not allow this."""

    code = "access_denied"
    sentence = (
        "The storage denies access to {where}{seen}: allow its key s3:GetObject, s3:GetObjectVersion "
        "and s3:ListBucket there, without the last a missing object looks the same."
    )


class CredentialsError(PermanentStorageError):
    """The storage does not accept the credentials: unknown, or not matching the signature."""

    code = "credentials_refused"
    sentence = (
        "The storage refuses the credentials used for {where}{seen}: correct the S3 credentials of that "
        "storage, and see that this machine's clock is right."
    )


class CredentialsExpiredError(CredentialsError):
    """The storage knows the credentials, and their time is over."""

    code = "credentials_expired"
    sentence = (
        "The credentials used for {where} have expired{seen}: put new S3 credentials of that storage, with "
        "their session token, into the settings and start the worker again."
    )


class ObjectChangedError(PermanentStorageError):
    """The object is no longer the version that was pinned."""

    code = "changed_while_reading"
    sentence = "{where} was changed while it was read{seen}: try again when nobody writes to it."


class NoSuchRangeError(ObjectChangedError):
    """The object ends before the range: it has become shorter, or it is empty where nothing was pinned."""


class ObjectOfflineError(PermanentStorageError):
    """The object lies in a cold storage class and has no restored copy."""

    code = "offline"
    sentence = "{where} lies in cold storage{seen}: restore it, then try again."


class WrongAnswerError(PermanentStorageError):
    """The storage answered something that no digest may be made from."""

    code = "wrong_storage_answer"
    sentence = (
        "The storage gave a wrong answer for {where}{seen}: its bytes cannot be trusted, see that the "
        "endpoint is an S3 server and nothing between changes its answers."
    )


class StorageUnreachableError(TransientStorageError):
    """No connection, or the connection broke."""

    code = "storage_unreachable"
    sentence = (
        "The storage cannot be reached for {where}{seen}: see that its endpoint is right and that it runs."
    )


class StorageBusyError(TransientStorageError):
    """The storage asks to slow down (429, 503).

    Args:
        where: As for every error.
        detail: As for every error.
        retry_after_seconds: What it asks for, if it tells.
    """

    code = "storage_busy"
    sentence = "The storage is too busy for {where}{seen}: try again later, or with fewer workers."

    def __init__(self, where: str, detail: str = "", *, retry_after_seconds: float | None = None) -> None:
        super().__init__(where, detail)
        self.retry_after_seconds = retry_after_seconds


class StorageFailedError(TransientStorageError):
    """The storage failed inside (500, 502, 504), or waited for us in vain."""

    code = "storage_failed"
    sentence = "The storage failed at {where}{seen}: try again later, and see what its own log says."


class ReadStalledError(TransientStorageError):
    """The bytes came more slowly than the floor on the rate, or not at all."""

    code = "read_stalled"
    sentence = "The storage has almost stopped sending {where}{seen}: try again later."
