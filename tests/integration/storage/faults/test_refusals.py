"""What the storage refuses, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_s3 import ADDRESS, FaultyS3, read, read_first, refuse
from worker.storage.errors import (
    AccessDeniedError,
    CredentialsError,
    CredentialsExpiredError,
    NoSuchBucketError,
    NoSuchObjectError,
    NoSuchRangeError,
    ObjectChangedError,
    ObjectOfflineError,
    StorageError,
    WrongAnswerError,
)

if TYPE_CHECKING:
    from worker.storage.store import ObjectStore

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")


REFUSALS = [
    (403, "AccessDenied", AccessDeniedError),
    (403, "SomethingNew", AccessDeniedError),
    (403, "InvalidAccessKeyId", CredentialsError),
    (403, "SignatureDoesNotMatch", CredentialsError),
    (403, "RequestTimeTooSkewed", CredentialsError),
    (400, "ExpiredToken", CredentialsExpiredError),
    (400, "TokenRefreshRequired", CredentialsExpiredError),
    (403, "RequestExpired", CredentialsExpiredError),
    (401, "Unauthorized", CredentialsError),
    (403, "InvalidObjectState", ObjectOfflineError),
    (404, "NoSuchKey", NoSuchObjectError),
    (404, "NoSuchVersion", NoSuchObjectError),
    (405, "MethodNotAllowed", NoSuchObjectError),
    (404, "NoSuchBucket", NoSuchBucketError),
    (412, "PreconditionFailed", ObjectChangedError),
    (416, "InvalidRange", NoSuchRangeError),
    (400, "NobodyKnows", WrongAnswerError),
    (301, "PermanentRedirect", WrongAnswerError),
]


@pytest.mark.parametrize(("status", "code", "error"), REFUSALS)
async def test_a_refused_range_says_why_and_is_not_asked_again(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """The class tells the reason, the text names the object and no secret, whatever the server echoes."""
    server.faults.append(refuse(status, code))

    with pytest.raises(error) as caught:
        await read(store)

    assert type(caught.value) is error
    assert "s3://bucket/folder/key" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "AKIATESTKEY" not in str(caught.value)
    assert server.asked.count("0-9999") == 1


@pytest.mark.parametrize(("status", "code", "error"), REFUSALS)
async def test_a_refused_pin_says_why_though_head_has_no_body(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """The first byte is asked for, to learn the reason."""
    server.faults.extend([refuse(status, code)] * 4)

    with pytest.raises(error) as caught:
        await store.pin(ADDRESS)

    assert type(caught.value) is error
    assert "s3://bucket/folder/key" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "error"), [row for row in REFUSALS if row[2] is not NoSuchRangeError]
)
async def test_a_refused_first_range_says_why_in_one_request(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """Unlike HEAD, GET tells the reason."""
    server.faults.append(refuse(status, code))

    with pytest.raises(error) as caught:
        await read_first(store)

    assert type(caught.value) is error
    assert "hush" not in str(caught.value)
    assert server.asked.count("0-19999") == 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", AccessDeniedError),
        (403, "InvalidAccessKeyId", CredentialsError),
        (404, "NoSuchBucket", NoSuchBucketError),
    ],
)
async def test_a_bucket_that_is_refused_says_why(
    server: FaultyS3, store: ObjectStore, status: int, code: str, error: type[StorageError]
) -> None:
    """HeadBucket has no body either: the reason comes from listing it, never from listing all buckets."""
    server.faults.extend([refuse(status, code)] * 2)

    with pytest.raises(error, match="s3://bucket"):
        await store.reach("bucket")

    assert all(request.path.startswith("/bucket") for request in server.requests)


async def test_a_head_that_alone_is_refused_stays_an_error(server: FaultyS3, store: ObjectStore) -> None:
    """Even if the GET that asks for the reason is answered."""
    server.faults.append(refuse(403, ""))

    with pytest.raises(AccessDeniedError):
        await store.pin(ADDRESS)
