import asyncio

import pytest

from worker.libsafe.breaker import Breaker
from worker.libsafe.errors import PlatformUnreachableError


def failed(breaker: Breaker, times: int) -> None:
    """Fail so often in a row."""
    for _ in range(times):
        breaker.failed()


async def test_one_failure_less_than_allowed_keeps_nobody_waiting() -> None:
    """Single failures are everyday life."""
    breaker = Breaker(most_failures=3, pause_seconds=3600)

    failed(breaker, 2)

    await breaker.admit()
    assert not breaker.is_open


async def test_a_success_between_failures_starts_the_count_anew() -> None:
    """Only a platform that answers nothing else is away."""
    breaker = Breaker(most_failures=3, pause_seconds=3600)

    failed(breaker, 2)
    breaker.succeeded()
    failed(breaker, 2)

    assert not breaker.is_open


async def test_while_it_is_open_one_call_after_the_pause_is_let_through() -> None:
    """A hundred jobs do not knock a hundred times."""
    breaker = Breaker(most_failures=3, pause_seconds=0.05)
    failed(breaker, 3)

    outcomes = await asyncio.gather(*(breaker.admit() for _ in range(10)), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, PlatformUnreachableError) for outcome in outcomes) == 9


async def test_those_who_wait_go_on_as_soon_as_a_call_succeeds() -> None:
    """Nobody sits out a pause for a platform that is back."""
    breaker = Breaker(most_failures=3, pause_seconds=3600)
    failed(breaker, 3)
    waiting = [asyncio.create_task(breaker.admit()) for _ in range(3)]
    await asyncio.sleep(0)

    breaker.succeeded()

    await asyncio.gather(*waiting)
    assert repr(breaker) == "<Breaker closed, 0 failures in a row>"


async def test_a_call_that_is_let_through_and_fails_keeps_it_open() -> None:
    """The next one may try after another pause."""
    breaker = Breaker(most_failures=1, pause_seconds=0.01)
    breaker.failed()
    await breaker.admit()

    breaker.failed()

    assert breaker.is_open
    await breaker.admit()


@pytest.mark.parametrize("times", [1, 5])
async def test_it_shows_its_state(times: int) -> None:
    """A repr is for logs and tests."""
    breaker = Breaker(pause_seconds=3600)

    failed(breaker, times)

    state = "open" if times == 5 else "closed"
    assert repr(breaker) == f"<Breaker {state}, {times} failures in a row>"
