from __future__ import annotations

import asyncio

import pytest

from worker.storage.access import StoreLimits
from worker.storage.errors import NoSuchObjectError, StorageBusyError, StorageFailedError
from worker.storage.throttle import Throttle, pause_seconds

LIMITS = StoreLimits(first_pause_seconds=0.001, longest_pause_seconds=0.002)


async def ask(throttle: Throttle, answer: Exception | None = None) -> None:
    """Send a request that is answered so."""
    async with throttle.turn("s3://bucket/key"):
        await asyncio.sleep(0)
        if answer is not None:
            raise answer


async def be_refused(throttle: Throttle, *, retry_after_seconds: float | None = None) -> None:
    """Send a request that is answered with the wish to slow down."""
    with pytest.raises(StorageBusyError):
        await ask(throttle, StorageBusyError("s3://bucket/key", retry_after_seconds=retry_after_seconds))


def test_pauses_double_up_to_the_longest() -> None:
    """With full jitter, this is their upper end; its lower end is none at all."""
    limits = StoreLimits(first_pause_seconds=0.5, longest_pause_seconds=20)

    assert [pause_seconds(limits, failures, share=1) for failures in (1, 2, 3, 6, 7, 5000)] == [
        0.5,
        1,
        2,
        16,
        20,
        20,
    ]
    assert pause_seconds(limits, 3, share=0.25) == 0.5
    assert pause_seconds(limits, 3, share=0) == 0


@pytest.mark.parametrize(
    ("asked_for_seconds", "expected"), [(0, 2), (1, 2), (7, 7), (300, 300), (86_400, 300)]
)
def test_no_pause_is_shorter_than_what_the_storage_asks_for_up_to_five_minutes(
    asked_for_seconds: float, expected: float
) -> None:
    """A day would be a mistake of the storage's."""
    limits = StoreLimits(first_pause_seconds=2, longest_pause_seconds=20)

    assert pause_seconds(limits, 1, share=1, asked_for_seconds=asked_for_seconds) == expected


async def test_a_wish_to_slow_down_holds_every_later_request_back() -> None:
    """Until somebody has been answered otherwise, one goes at a time."""
    throttle = Throttle("storage", LIMITS)
    await be_refused(throttle)
    under_way = 0

    async def ask_alone() -> None:
        nonlocal under_way
        async with throttle.turn("s3://bucket/key"):
            under_way += 1
            assert under_way == 1
            await asyncio.sleep(0)
            under_way -= 1
            raise StorageFailedError("s3://bucket/key")  # which tells nothing about the wish

    outcomes = await asyncio.gather(*(ask_alone() for _ in range(5)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [StorageFailedError] * 5
    assert repr(throttle) == "<Throttle of storage: 1 wishes to slow down in turn>"


@pytest.mark.parametrize("answer", [None, NoSuchObjectError("s3://bucket/key")])
async def test_any_other_answer_ends_it(answer: Exception | None) -> None:
    """Also a refusal for another reason: the storage is not too busy to say so."""
    throttle = Throttle("storage", LIMITS)
    await be_refused(throttle)

    await asyncio.gather(ask(throttle, answer), return_exceptions=True)

    assert repr(throttle) == "<Throttle of storage: 0 wishes to slow down in turn>"


async def test_the_first_byte_lets_the_others_go() -> None:
    """They do not wait for the end of a long body."""
    throttle = Throttle("storage", LIMITS)
    await be_refused(throttle)

    async with throttle.turn("s3://bucket/long") as turn:
        other = asyncio.create_task(ask(throttle))
        for _ in range(5):  # it waits by now
            await asyncio.sleep(0)
        throttle.heard(turn)
        async with asyncio.timeout(10):
            await other


@pytest.mark.parametrize("answer", [None, StorageBusyError("s3://bucket/early")])
async def test_a_request_from_before_the_wish_neither_ends_it_nor_makes_it_longer(
    answer: Exception | None,
) -> None:
    """Many are under way when the first is refused; they are answered by the storage as it was."""
    throttle = Throttle("storage", LIMITS)

    async def ask_early() -> None:
        async with throttle.turn("s3://bucket/early"):
            await be_refused(throttle)
            if answer is not None:
                raise answer

    await asyncio.gather(ask_early(), return_exceptions=True)

    assert repr(throttle) == "<Throttle of storage: 1 wishes to slow down in turn>"


async def test_patience_ends_when_nothing_else_has_come() -> None:
    """Then requests fail at once instead of waiting, until the pause is over and one may try."""
    limits = StoreLimits(first_pause_seconds=0.001, longest_pause_seconds=0.002, patience_seconds=0)
    throttle = Throttle("storage", limits)
    assert not throttle.is_out_of_patience
    await be_refused(throttle, retry_after_seconds=60)

    assert throttle.is_out_of_patience
    async with asyncio.timeout(10):
        with pytest.raises(StorageBusyError, match="has sent nothing else"):
            await ask(throttle)


async def test_a_byte_of_an_earlier_request_is_a_sign_of_life() -> None:
    """The storage still serves what it has begun."""
    throttle = Throttle("storage", LIMITS)
    async with throttle.turn("s3://bucket/early") as early:
        await be_refused(throttle)
        throttle._heard_at -= LIMITS.patience_seconds  # as if it were so long ago
        was_out_of_patience = throttle.is_out_of_patience

        throttle.heard(early)

        assert was_out_of_patience
        assert not throttle.is_out_of_patience


async def test_cancellation_while_waiting_gives_the_place_to_the_next() -> None:
    """Whether it waits for its turn or for the end of the pause."""
    throttle = Throttle("storage", LIMITS)
    await be_refused(throttle, retry_after_seconds=60)
    waiting = [asyncio.create_task(ask(throttle)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)

    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    throttle._resume_at = 0  # as if the minute were over

    async with asyncio.timeout(10):
        await ask(throttle)
    assert all(task.cancelled() for task in waiting)
