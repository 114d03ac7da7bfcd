"""Bodies that break, stall or drip."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_s3 import (
    ADDRESS,
    CONTENT,
    LIMITS,
    VERSION,
    FaultyS3,
    Slot,
    access_to,
    chunked,
    cut,
    drip,
    read,
    reset,
    send_part,
    stall,
    stall_before_the_head,
    whole_but_not_ended,
)
from worker.storage.errors import ReadStalledError, StorageUnreachableError
from worker.storage.reader import read_object
from worker.storage.store import ObjectStore

if TYPE_CHECKING:
    from aiohttp import web

    from tests.support.faulty_s3 import Fault

# The faults are many and each needs a server, so all of a file share one loop and one store.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("fault", [cut(4_000), reset(4_000), chunked(CONTENT[:4_000])])
async def test_a_body_that_breaks_goes_on_from_the_byte_it_reached(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """No byte is asked for again that has come, unless the break swallowed it on the way."""
    server.faults.append(fault)

    content = await read(store)

    assert content == CONTENT
    first, again = server.asked
    assert first == "0-9999"
    assert 0 <= int(again.removesuffix("-9999")) <= 4_000


async def test_a_body_that_is_too_short_is_resumed_each_time_where_it_stopped(
    server: FaultyS3, store: ObjectStore
) -> None:
    """The bytes asked for in all are the object's, and those cut off once more each."""
    server.faults.extend([chunked(CONTENT[100:1_100]), chunked(CONTENT[1_100:1_101])])

    content = await read(store, 100, 5_000)

    assert content == CONTENT[100:5_100]
    assert server.asked == ["100-5099", "1100-5099", "1101-5099"]


async def test_a_body_that_always_breaks_is_given_up_after_the_attempts(
    server: FaultyS3, store: ObjectStore
) -> None:
    """Everything is bounded, also a little progress each time."""
    server.faults.extend([cut(1), cut(1), cut(1)])

    with pytest.raises(StorageUnreachableError, match="s3://bucket/folder/key"):
        await read(store)

    assert len(server.asked) == LIMITS.attempts


@pytest.mark.parametrize(
    ("fault", "again"), [(stall(4_000), "4000-9999"), (stall(0), "0-9999"), (stall_before_the_head, "0-9999")]
)
async def test_a_storage_that_falls_silent_is_cut_and_asked_again(
    server: FaultyS3, impatient_store: ObjectStore, fault: Fault, again: str
) -> None:
    """From the byte it reached."""
    server.faults.append(fault)

    assert await read(impatient_store) == CONTENT
    assert server.asked == ["0-9999", again]


async def test_a_body_that_is_whole_when_patience_ends_is_read(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """Nothing is left to ask for; a Range behind the last byte would be refused, as of a changed object."""
    server.faults.append(whole_but_not_ended)

    assert await read(impatient_store) == CONTENT
    assert server.asked == ["0-9999"]


async def test_a_body_whose_last_byte_comes_in_a_freeze_is_read(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """The loop finds the byte and the end of the storage's time at once, as after a suspended machine."""

    async def freeze_then_end(server: FaultyS3, request: web.BaseRequest) -> web.StreamResponse:
        response = await send_part(server, request, 4_999)
        await asyncio.sleep(0.1)  # the reader gets so far
        await response.write(CONTENT[4_999:5_000])
        time.sleep(1)  # noqa: ASYNC251 - nobody turns the loop
        return response

    server.faults.append(freeze_then_end)

    assert await read(impatient_store, 0, 5_000) == CONTENT[:5_000]
    assert "5000-4999" not in server.asked


async def test_a_storage_that_stays_silent_is_given_up_after_the_attempts(
    server: FaultyS3, impatient_store: ObjectStore
) -> None:
    """Silence before the first byte of an answer counts as well, also for the pin."""
    server.faults.extend([stall(10), *[stall_before_the_head] * 3])

    with pytest.raises(ReadStalledError, match="s3://bucket/folder/key"):
        await read(impatient_store)
    with pytest.raises(ReadStalledError, match="s3://bucket/folder/key"):
        await impatient_store.pin(ADDRESS)

    assert server.asked == ["0-9999", "10-9999", "HEAD", "HEAD"]


async def test_a_drip_below_the_floor_is_cut(server: FaultyS3, impatient_store: ObjectStore) -> None:
    """Bytes come all the time, so no socket timeout would ever end it."""
    server.faults.extend([drip, drip])

    with pytest.raises(ReadStalledError, match="s3://bucket/folder/key"):
        await read(impatient_store)

    again = int(server.asked[1].removesuffix("-9999"))
    assert again > 0


async def test_a_storage_that_does_not_run_is_unreachable(unused_tcp_port: int) -> None:
    """For a pin, a range and a bucket alike."""
    async with ObjectStore(access_to(f"http://127.0.0.1:{unused_tcp_port}"), LIMITS) as store:
        for asking in (store.pin(ADDRESS), read(store), store.reach("bucket")):
            with pytest.raises(StorageUnreachableError, match=f"s3://bucket.*{unused_tcp_port}") as caught:
                await asking
            assert "hush" not in str(caught.value)


@pytest.mark.parametrize("fault", [stall(500), stall_before_the_head])
async def test_cancellation_in_mid_read_gives_slots_and_connections_back(
    server: FaultyS3, store: ObjectStore, fault: Fault
) -> None:
    """And leaves no task of ours."""
    server.faults.extend([fault] * 3)
    ring: asyncio.Queue[Slot] = asyncio.Queue()
    for _ in range(3):
        ring.put_nowait(Slot(memoryview(bytearray(1_000))))

    class Ring:
        async def acquire(self) -> Slot:
            return await ring.get()

        def release(self, slot: Slot) -> None:
            ring.put_nowait(slot)

    async def consume() -> None:
        async with read_object(store, VERSION, Ring(), ranges_in_flight=3) as ranges:
            async for _ in ranges:
                pytest.fail("no range can be whole")

    reading = asyncio.create_task(consume())
    await server.stalled.wait()
    reading.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert ring.qsize() == 3
    assert "0 of 4 connections busy" in repr(store)
    assert not [task for task in asyncio.all_tasks() if "worker/storage" in repr(task)]
    server.faults.clear()
    assert await read(store) == CONTENT


async def test_resets_at_random_bytes_cost_no_more_than_the_rest_of_their_range(
    server: FaultyS3, store: ObjectStore
) -> None:
    """What has come is kept; each range is asked for again once at most, for its rest."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)  # noqa: S311 - chooses faults, guards nothing
    for _ in range(20):
        start = chance.randrange(len(CONTENT))
        length = chance.randint(1, len(CONTENT) - start)
        server.faults.extend([chance.choice([reset, cut])(chance.randint(0, length - 1))])
        server.asked.clear()

        assert await read(store, start, length) == CONTENT[start : start + length]

        first, again = server.asked
        from_byte, to_byte = map(int, again.split("-"))
        assert first == f"{start}-{start + length - 1}"
        assert start <= from_byte <= to_byte == start + length - 1
