"""Storages that are too busy, or that fail inside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.support.faulty_s3 import ADDRESS, CONTENT, LIMITS, FaultyS3, cut, read, refuse
from worker.storage.errors import StorageBusyError, StorageFailedError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from aiohttp import web

    from tests.support.faulty_s3 import Fault
    from worker.storage.store import ObjectStore

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")

BUSY = [
    (503, "SlowDown"),
    (503, "ServiceUnavailable"),
    (503, "?"),
    (429, "TooManyRequests"),
    (400, "SlowDown"),
]
FAILED = [(500, "InternalError"), (502, "?"), (504, "?"), (400, "RequestTimeout")]


@pytest.mark.parametrize(("status", "code"), FAILED)
async def test_a_storage_that_fails_inside_is_asked_again(
    server: FaultyS3, store: ObjectStore, status: int, code: str
) -> None:
    """Twice out of order, then fine."""
    server.faults.extend([refuse(status, code)] * 2)

    assert await read(store, 0, 10) == CONTENT[:10]
    assert server.asked == ["0-9"] * 3


async def test_a_storage_that_goes_on_failing_is_given_up_after_the_attempts(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Attempts do not multiply with those of the client below; pinning knows no more than reading."""
    server.always = refuse(500, "InternalError")

    with pytest.raises(StorageFailedError, match=r"s3://bucket/folder/key.*InternalError"):
        await read(store)
    with pytest.raises(StorageFailedError, match="s3://bucket/folder/key"):
        await store.pin(ADDRESS)

    assert server.asked == ["0-9999"] * LIMITS.attempts + ["HEAD"] * LIMITS.attempts


@pytest.mark.parametrize(("status", "code"), BUSY)
async def test_being_asked_to_slow_down_costs_no_attempt(
    server: FaultyS3, store: ObjectStore, status: int, code: str
) -> None:
    """A range may be refused more often than it may fail."""
    refusals = LIMITS.attempts + 1
    server.faults.extend([refuse(status, code)] * refusals)

    assert await read(store, 0, 10) == CONTENT[:10]
    assert server.asked == ["0-9"] * (refusals + 1)


async def test_what_breaks_between_two_refusals_still_costs_an_attempt(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Otherwise a storage that refuses and breaks in turn would be asked without end."""
    pairs: list[Fault] = [refuse(503, "SlowDown"), refuse(500, "InternalError")]
    server.faults.extend(pairs * 2 * LIMITS.attempts)

    with pytest.raises(StorageFailedError):
        await read(store)

    assert len(server.asked) == 2 * LIMITS.attempts


async def test_a_refusal_in_the_middle_of_a_range_loses_no_byte(server: FaultyS3, store: ObjectStore) -> None:
    """The rest is asked for, however often it takes."""
    server.faults.extend([cut(4_000), *[refuse(503, "SlowDown")] * 5])

    assert await read(store) == CONTENT
    again = server.asked[1:]
    assert again == [again[0]] * 6
    assert 0 <= int(again[0].removesuffix("-9999")) <= 4_000


async def test_a_storage_that_asks_to_slow_down_for_too_long_is_given_up(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """For a range, a pin and a bucket alike; when it recovers, it is read again."""
    server.always = refuse(503, "SlowDown")
    for asking in (read(impatient_store), impatient_store.pin(ADDRESS), impatient_store.reach("bucket")):
        with pytest.raises(StorageBusyError, match="s3://bucket"):
            await asking
    server.always = None

    assert await persistently(impatient_store) == CONTENT


async def test_a_storage_out_of_patience_fails_the_ranges_that_still_have_some(
    server: FaultyS3, store: ObjectStore
) -> None:
    """It is the storage that is too busy: each range on its own would wait as long once more."""
    server.always = refuse(503, "SlowDown")
    reading = asyncio.create_task(read(store))
    async with asyncio.timeout(10):
        while not server.asked:  # noqa: ASYNC110 - the server's list, no event tells
            await asyncio.sleep(0)
        while not store._throttle.is_out_of_patience:
            store._throttle._heard_at -= LIMITS.patience_seconds  # as if it were so long ago
            await asyncio.sleep(0)

        with pytest.raises(StorageBusyError):
            await reading
    server.always = None
    assert await persistently(store) == CONTENT


async def test_patience_is_not_longer_for_a_storage_that_asks_for_more(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """It is not asked before the time it named either."""
    server.always = refuse(503, "SlowDown", retry_after="60")

    async with asyncio.timeout(10):
        for _ in range(2):
            with pytest.raises(StorageBusyError, match="it has sent nothing else"):
                await read(impatient_store)

    assert len(server.asked) == 1
    impatient_store._throttle._resume_at = 0  # as if the minute were over
    server.always = None
    assert await read(impatient_store) == CONTENT


async def test_a_range_that_alone_is_always_refused_is_given_up(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """However well the storage sends others meanwhile."""

    async def refuse_one(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        is_refused = request.headers.get("Range") == "bytes=0-99"
        return await (refuse(503, "SlowDown") if is_refused else FaultyS3.serve)(server, request)

    server.always = refuse_one
    reading = asyncio.create_task(read(impatient_store, 0, 100))
    while not reading.done():
        assert await read(impatient_store, 100, 100) == CONTENT[100:200]

    assert isinstance(reading.exception(), StorageBusyError)


async def persistently(store: ObjectStore) -> bytes:
    """Read until the store, out of patience, lets a request go again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await read(store)
            except StorageBusyError:
                await asyncio.sleep(0)


async def test_many_ranges_slow_down_as_one_and_all_come_to_their_end(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Nothing is asked for twice that was not refused."""
    refusals = 12
    server.faults.extend([refuse(503, "SlowDown")] * refusals)

    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(read(store, start, 100)) for start in range(0, 10_000, 100)]

    assert b"".join(reading.result() for reading in readings) == CONTENT
    assert len(server.asked) == len(readings) + refusals


async def test_one_request_at_a_time_is_sent_until_the_storage_recovers(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Those that were under way at the first refusal have been answered by then."""
    under_way, most_under_way = 0, []

    async def count(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal under_way
        under_way += 1
        most_under_way.append(under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await refuse(503, "SlowDown")(server, request)

    server.faults.extend([count] * 12)
    async with asyncio.TaskGroup() as group:
        for start in range(0, 2_000, 100):
            group.create_task(read(store, start, 100))

    assert most_under_way[LIMITS.max_connections :] == [1] * (12 - LIMITS.max_connections)


async def test_slowing_down_is_logged_once_and_so_is_its_end(server: FaultyS3, store: ObjectStore) -> None:
    """Not for every range; and the storage is named, no object and no key."""
    server.faults.extend([refuse(503, "SlowDown")] * 8)

    with capture_logs() as logs:
        await asyncio.gather(*(read(store, start, 100) for start in range(0, 2_000, 100)))
        await until_full_speed(store, logs)

    assert [entry["event"] for entry in logs] == [
        "The storage asks to slow down",
        "The storage answers at full speed again",
    ]
    assert {entry["storage"] for entry in logs} == {"127.0.0.1"}


async def until_full_speed(store: ObjectStore, logs: list[MutableMapping[str, object]]) -> None:
    """Read until the log has the end of it, which comes when no refusal has come for the longest pause."""
    async with asyncio.timeout(10):
        while len(logs) < 2:
            await read(store, 0, 10)


async def test_retry_after_is_waited_for(server: FaultyS3, store: ObjectStore) -> None:
    """A second is longer than any pause of the test's own limits."""
    server.faults.append(refuse(503, "SlowDown", retry_after="1"))

    with capture_logs() as logs:
        assert await read(store) == CONTENT

    assert [entry["pause_seconds"] for entry in logs if entry["log_level"] == "warning"] == [1.0]
