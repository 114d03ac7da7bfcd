import asyncio

import pytest

from worker.jobs.stopping import Stop, StoppedError, StopReason


async def test_a_block_is_left_when_the_stop_is_requested() -> None:
    """The first reason counts; the task itself goes on."""
    stop = Stop()
    asyncio.get_running_loop().call_soon(stop.request, StopReason.REVOKED)
    asyncio.get_running_loop().call_soon(stop.request, StopReason.SHUTDOWN)

    with pytest.raises(StoppedError) as caught, stop:
        await asyncio.Event().wait()

    await asyncio.sleep(0)
    assert caught.value.reason is StopReason.REVOKED


async def test_after_the_request_no_block_is_begun() -> None:
    """A stop that comes early stops all the same."""
    stop = Stop()
    stop.request(StopReason.TIME_LIMIT)

    with pytest.raises(StoppedError), stop:
        pytest.fail("the block was begun")


async def test_without_a_request_nothing_happens() -> None:
    """Values and errors pass."""
    stop = Stop()

    with stop:
        await asyncio.sleep(0)
    with pytest.raises(KeyError), stop:
        raise KeyError

    assert repr(stop) == "<Stop not requested>"


async def test_a_request_between_blocks_touches_nobody() -> None:
    """What is not under the stop is not stopped: the last words to the platform."""
    stop = Stop()
    with stop:
        await asyncio.sleep(0)

    stop.request(StopReason.SHUTDOWN)

    await asyncio.sleep(0)
    assert stop.reason is StopReason.SHUTDOWN


async def test_a_cancellation_from_elsewhere_goes_on() -> None:
    """The event loop is left, for one; it does not matter that a stop was requested as well."""
    stop = Stop()

    async def run() -> None:
        with stop:
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    stop.request(StopReason.SHUTDOWN)

    with pytest.raises(asyncio.CancelledError):
        await task
