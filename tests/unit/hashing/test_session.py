"""What a session refuses, without any lane."""

import pytest

from worker.hashing.errors import HasherFailedError
from worker.hashing.registry import resolve
from worker.hashing.scheduler import Scheduler
from worker.hashing.session import Session
from worker.hashing.slots import SlotRing


class _Bench:
    """A session over a ring of two slots of 10 bytes; `state` is what its pool would see."""

    def __init__(self, size_bytes: int | None) -> None:
        algorithms = resolve(["md5", "blake3"])
        self.slots = SlotRing(2, 10)
        self.scheduler = Scheduler(lane_count=1, cell_count=1)
        self.state = self.scheduler.open(algorithms)
        self.dispatched = 0
        self.session = Session(
            self.state,
            algorithms,
            size_bytes,
            scheduler=self.scheduler,
            slots=self.slots,
            dispatch=self._dispatch,
        )

    def _dispatch(self) -> None:
        self.dispatched += 1

    async def feed(self, length: int) -> None:
        self.session.feed(await self.slots.acquire(), length)


@pytest.mark.parametrize("length", [0, -1, 11])
async def test_a_piece_that_does_not_fit_its_slot_is_an_error_and_its_slot_goes_back(length: int) -> None:
    """A piece has one byte at least, and no more than its slot."""
    bench = _Bench(None)

    with pytest.raises(ValueError, match="was fed in a slot of 10"):
        await bench.feed(length)

    assert bench.slots.held_count == 0


async def test_more_bytes_than_announced_are_an_error_and_their_slot_goes_back() -> None:
    """A digest of more than the object is no digest of the object."""
    bench = _Bench(12)
    await bench.feed(10)

    with pytest.raises(ValueError, match="13 bytes were fed of an object of 12"):
        await bench.feed(3)

    assert bench.slots.held_count == 1


async def test_fewer_bytes_than_announced_are_an_error_never_a_digest() -> None:
    """A digest of a part of the object is no digest of the object."""
    bench = _Bench(12)
    await bench.feed(10)

    with pytest.raises(ValueError, match="10 of 12 bytes were fed"):
        await bench.session.digests()


async def test_the_session_knows_its_end_when_all_announced_bytes_are_there() -> None:
    """Then the digests come with the last piece."""
    bench = _Bench(12)
    await bench.feed(10)
    assert not bench.state.is_closed
    await bench.feed(2)

    assert bench.state.is_closed
    assert bench.dispatched == 2


async def test_a_failed_session_takes_no_more_pieces() -> None:
    """Whoever reads learns at the next piece that reading on is no use."""
    bench = _Bench(None)
    bench.state.fail(HasherFailedError("md5", "out of luck"))

    with pytest.raises(HasherFailedError, match="Hashing with md5 failed: out of luck"):
        await bench.feed(1)
    with pytest.raises(HasherFailedError, match="out of luck"):
        await bench.session.digests()

    assert bench.slots.held_count == 0


async def test_a_session_that_was_left_gives_nothing_and_takes_nothing() -> None:
    """Nobody waits for digests that never come."""
    bench = _Bench(None)
    bench.scheduler.abandon(bench.state)

    with pytest.raises(RuntimeError, match="takes no more pieces"):
        await bench.feed(1)
    with pytest.raises(RuntimeError, match="was left"):
        await bench.session.digests()


async def test_digests_come_once_and_in_the_order_asked_for() -> None:
    """A second call is a mistake of the caller."""
    bench = _Bench(None)
    bench.state.deliver([("blake3", b"b"), ("md5", b"m")])

    digests = await bench.session.digests()

    assert list(digests.items()) == [("md5", b"m"), ("blake3", b"b")]
    with pytest.raises(RuntimeError, match="only once"):
        await bench.session.digests()


async def test_a_session_tells_how_far_it_is() -> None:
    """Logs and people see algorithms, bytes and digests."""
    bench = _Bench(None)
    await bench.feed(7)
    bench.state.deliver([("md5", b"m")])

    assert repr(bench.session) == "<Session md5+blake3, 7 bytes, 1 digests>"
