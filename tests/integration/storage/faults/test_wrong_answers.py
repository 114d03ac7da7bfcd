"""Answers that no digest may be made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.faulty_s3 import (
    ADDRESS,
    CONTENT,
    FaultyS3,
    answer,
    chunked,
    read,
    read_first,
    whole_object,
)
from worker.storage.errors import ObjectChangedError, StorageError, WrongAnswerError
from worker.storage.object_version import ObjectAddress

if TYPE_CHECKING:
    from tests.support.faulty_s3 import Fault
    from worker.storage.store import ObjectStore

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (whole_object, WrongAnswerError),
        (answer(1, 10_000, 10_000, CONTENT), WrongAnswerError),
        (answer(0, 9_998, 10_000, CONTENT[:-1]), WrongAnswerError),
        (answer(0, 9_999, 10_000, CONTENT[:-1]), WrongAnswerError),
        (answer(0, 9_999, 10_000, CONTENT + b"!"), WrongAnswerError),
        (chunked(CONTENT + b"!"), WrongAnswerError),
        (answer(0, 9_999, 10_001, CONTENT), ObjectChangedError),
        (answer(0, 9_999, 10_000, CONTENT, etag='"other"'), ObjectChangedError),
    ],
)
async def test_a_wrong_answer_is_an_error_never_a_digest(
    server: FaultyS3, store: ObjectStore, fault: Fault, error: type[StorageError]
) -> None:
    """200 for 206, other bytes, another length, another object: and it is not asked again."""
    server.faults.append(fault)

    with pytest.raises(error, match="s3://bucket/folder/key"):
        await read(store)

    assert len(server.asked) == 1


@pytest.mark.parametrize("etag", [{}, {"ETag": 'W/"weak"'}])
async def test_an_object_that_nothing_can_pin_is_refused(
    server: FaultyS3, store: ObjectStore, etag: dict[str, str]
) -> None:
    """Without a strong ETag a change within a second would go unseen."""

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": "5", **etag})

    server.faults.append(fault)

    with pytest.raises(WrongAnswerError, match="s3://bucket/folder/key"):
        await store.pin(ADDRESS)


async def test_another_version_than_the_one_named_is_refused(server: FaultyS3, store: ObjectStore) -> None:
    """By the pin and by the first range: the digest would be of something that nobody asked for."""
    named = ObjectAddress("bucket", "key", "v1")
    destination = memoryview(bytearray(100))

    async def fault(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = await server.serve(request)
        response.headers["x-amz-version-id"] = "v2"
        return response

    server.faults.extend([fault] * 2)

    with pytest.raises(WrongAnswerError, match="another version id"):
        await store.pin(named)
    with pytest.raises(WrongAnswerError, match="another version id"):
        await store.read_first(named, destination, lambda _: pytest.fail("nothing can be pinned"))

    assert server.asked == ["HEAD", "0-99"]


@pytest.mark.parametrize(
    "fault",
    [
        whole_object,
        answer(0, 9_999, 10_000, CONTENT, etag='W/"weak"'),
        answer(0, 9_999, 10_001, CONTENT),
        answer(0, 19_999, 10_000, CONTENT),
        answer(0, 9_999, 10_000, CONTENT[:-1]),
        chunked(CONTENT + b"!"),
    ],
)
async def test_a_wrong_first_answer_is_an_error_never_a_digest(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """The same rules as for every later range."""
    server.faults.append(fault)

    with pytest.raises(WrongAnswerError, match="s3://bucket/folder/key"):
        await read_first(store)

    assert len(server.asked) == 1
