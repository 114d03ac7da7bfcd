"""Sessions for a scheduler without lanes, and what a work says."""

from collections.abc import Sequence

from worker.hashing.registry import resolve
from worker.hashing.scheduler import Scheduler
from worker.hashing.slots import Slot
from worker.hashing.streams import SessionState, Work

MIB = 1 << 20


def make_slots(count: int) -> list[Slot]:
    """Make slots with nothing in them."""
    return [Slot(index, memoryview(b"")) for index in range(count)]


def names_of(work: Work | None) -> list[str]:
    """Give the names of a work's algorithms."""
    assert work is not None
    return [stream.algorithm.name for stream in work.streams]


def open_session(scheduler: Scheduler, names: Sequence[str], pieces: Sequence[int] = ()) -> SessionState:
    """Open a session and feed it pieces of these lengths."""
    session = scheduler.open(resolve(names))
    for slot, length in zip(make_slots(len(pieces)), pieces, strict=True):
        scheduler.feed(session, slot, length)
    return session
