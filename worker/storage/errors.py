"""What can go wrong between an S3 storage and a slot.

StorageError
├── PermanentStorageError         trying again cannot help
│   ├── InvalidAddressError       invalid_address
│   ├── NoSuchObjectError         no_such_object
│   ├── NoSuchBucketError         no_such_bucket
│   ├── AccessDeniedError         access_denied
│   ├── CredentialsError          credentials
│   ├── ObjectChangedError        changed_while_reading
│   │   └── NoSuchRangeError
│   ├── ObjectOfflineError        offline
│   └── WrongAnswerError          wrong_answer
└── TransientStorageError         trying again may help
    ├── StorageUnreachableError   storage_unreachable
    ├── StorageBusyError          storage_busy
    └── ReadStalledError          read_stalled
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
    """The storage does not accept the credentials: expired, unknown, or not matching the signature."""

    code = "credentials"
    sentence = (
        "The storage refuses the credentials used for {where}{seen}: renew the S3 credentials of that "
        "storage, and see that this machine's clock is right."
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

    code = "wrong_answer"
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
    """The storage asks to slow down, or failed inside (429, 500, 502, 503, 504)."""

    code = "storage_busy"
    sentence = "The storage is too busy for {where}{seen}: try again later."


class ReadStalledError(TransientStorageError):
    """The bytes came more slowly than the floor on the rate, or not at all."""

    code = "read_stalled"
    sentence = "The storage has almost stopped sending {where}{seen}: try again later."
