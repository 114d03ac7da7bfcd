"""The address of an object, and the version of it that is pinned before the first byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from worker.storage.errors import InvalidAddressError, WrongAnswerError

_SCHEME = "s3://"
_VERSION_MARK = "?versionId="

# Storage classes whose bytes must be restored before a GET; GLACIER_IR is not one of them
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html).
_COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """Where an object is.

    As text it is `s3://bucket/key`, the key as it is, character by character: nothing is percent-encoded,
    so spaces, `%`, `#`, `+` and `?` stand for themselves, as with the AWS command line. A version id follows
    the last `?versionId=`. A key that holds this very mark itself is written with one more, empty, behind it.

    Args:
        bucket: Not empty, without a slash.
        key: Not empty; may begin with a slash.
        version_id: None: the current version.

    Raises:
        InvalidAddressError: A part is empty or impossible.
    """

    bucket: str
    key: str
    version_id: str | None = None

    def __post_init__(self) -> None:
        fault = _fault_in(self.bucket, self.key, self.version_id)
        if fault:
            raise InvalidAddressError(ascii(str(self)), fault)

    def __str__(self) -> str:
        text = f"{_SCHEME}{self.bucket}/{self.key}"
        if self.version_id is None and _VERSION_MARK not in self.key:
            return text
        return f"{text}{_VERSION_MARK}{self.version_id or ''}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the text that `str()` gives.

        Raises:
            InvalidAddressError: It does not begin with `s3://`, or a part is empty.
        """
        if not url.startswith(_SCHEME):
            raise InvalidAddressError(ascii(url), f"it does not begin with {_SCHEME}")
        bucket, _, rest = url.removeprefix(_SCHEME).partition("/")
        if _VERSION_MARK not in rest:
            return cls(bucket, rest)
        key, _, version_id = rest.rpartition(_VERSION_MARK)
        return cls(bucket, key, version_id or None)


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What was pinned: every byte read later belongs to exactly this, or reading fails.

    Args:
        address: With the version id that the storage told, where it keeps versions.
        etag: As sent, quotes included; a sign of change and nothing more, it is no MD5.
        size_bytes: 0 for an empty object, which has no range.
        storage_class: `STANDARD` where the storage names none.
    """

    address: ObjectAddress
    etag: str
    size_bytes: int
    storage_class: str = "STANDARD"


def check_etag(address: ObjectAddress, etag: str | None) -> str:
    """Let only a strong ETag through: If-Match never matches a weak one (RFC 9110, 13.1.1).

    Size and time alone do not show a change within one second, and a digest over two versions must never
    come to be. An object that fits one answer is no exception: the retry of a broken body needs the pin too.

    Raises:
        WrongAnswerError: There is none, or it is weak.
    """
    if not etag or etag.startswith("W/"):
        raise WrongAnswerError(str(address), "no strong ETag, so a change could not be seen")
    return etag


def is_offline(storage_class: str, archive_status: str, restore: str) -> bool:
    """Tell whether an object's bytes cannot be read now.

    Args:
        storage_class: The header `x-amz-storage-class`, or empty.
        archive_status: The header `x-amz-archive-status`, or empty; only the archive tiers of
            INTELLIGENT_TIERING have one.
        restore: The header `x-amz-restore`: empty if no restore was asked for; `ongoing-request="false"`
            once a copy can be read (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html).
    """
    is_cold = storage_class in _COLD_CLASSES or bool(archive_status)
    return is_cold and 'ongoing-request="false"' not in restore


def _fault_in(bucket: str, key: str, version_id: str | None) -> str:
    if not bucket or "/" in bucket:
        return "the bucket is missing or holds a slash"
    if not key:
        return "the key is missing"
    if version_id is not None and (not version_id or _VERSION_MARK in version_id):
        return "the version id is impossible"
    try:
        f"{bucket}{key}{version_id}".encode()
    except UnicodeEncodeError:
        return "it is not Unicode text"
    return ""
