"""The memory that parent and lanes share."""

import errno
import gc
import os
from collections.abc import Iterator

import pytest

from worker.hashing.contexts import STATE_BYTES
from worker.hashing.errors import SharedMemoryError
from worker.hashing.memory import CELL_BYTES, STATES_PER_CELL, SharedMemory


@pytest.fixture(params=["memfd", "temporary file"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedMemory]:
    """Three cells and two slots of 5 bytes, with both kinds of anonymous file."""
    if request.param == "temporary file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    memory = SharedMemory.create(cell_count=3, slot_count=2, slot_bytes=5)
    yield memory
    memory.close()


def test_states_and_slots_lie_side_by_side_and_never_overlap(memory: SharedMemory) -> None:
    """What is written into one is seen in no other."""
    states = [memory.state(cell, turn) for cell in range(3) for turn in range(STATES_PER_CELL)]
    slots = [memory.slot(0), memory.slot(1)]
    for number, part in enumerate(states + slots):
        part[:] = bytes([number]) * len(part)

    assert [len(part) for part in states + slots] == [STATE_BYTES] * len(states) + [5, 5]
    assert [set(part) for part in states + slots] == [{number} for number in range(len(states) + 2)]


def test_the_turns_of_a_cell_go_round(memory: SharedMemory) -> None:
    """A stream takes any number of works with the few states of one cell."""
    memory.state(1, 0)[:5] = b"first"

    assert bytes(memory.state(1, STATES_PER_CELL)[:5]) == b"first"


def test_who_maps_the_same_file_sees_the_same_bytes(memory: SharedMemory) -> None:
    """A lane needs the descriptor and the measures, nothing else."""
    other = SharedMemory(os.dup(memory.descriptor), cell_count=3, slot_count=2, slot_bytes=5)
    memory.slot(1)[:] = b"hello"

    assert bytes(other.slot(1)) == b"hello"
    other.close()


def test_closing_twice_is_fine(memory: SharedMemory) -> None:
    """The descriptor's number may be somebody else's by then, so it is closed once."""
    memory.close()
    memory.close()

    assert memory.descriptor == -1


class _Map:
    """A mapping whose system answers `madvise` with an error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def madvise(self, advice: int) -> None:
        raise OSError(self._number, os.strerror(self._number))

    def __len__(self) -> int:
        return 3 * CELL_BYTES + 2 * 5


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EFAULT])
def test_pages_that_the_system_has_not_are_an_error_with_all_numbers(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whoever reads it knows what was asked for and what to change."""
    monkeypatch.setattr(memory, "_map", _Map(number))

    with pytest.raises(
        SharedMemoryError, match=r"no 10 bytes.* 2 slots of 5 bytes .*hashing\.slots"
    ) as caught:
        memory.populate()

    assert (caught.value.code, caught.value.needed_bytes) == ("no_shared_memory", 10)
    assert os.strerror(number) in str(caught.value)


def test_a_system_that_cannot_populate_reserves_the_pages(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older Linux has no word for it, but the pages must be there all the same."""
    reserved = []
    monkeypatch.setattr(memory, "_map", _Map(errno.EINVAL))
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: reserved.append(args), raising=False)

    memory.populate()

    assert reserved == [(memory.descriptor, 0, 3 * CELL_BYTES + 10)]


def test_a_file_that_cannot_be_so_large_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool that could not be made is not there to close it."""

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    gc.collect()  # what earlier tests raised may still hold descriptors
    opened = len(os.listdir("/dev/fd"))  # noqa: PTH208 -- names are all we count
    monkeypatch.setattr(os, "ftruncate", refuse)

    with pytest.raises(SharedMemoryError, match="File too large"):
        SharedMemory.create(cell_count=1, slot_count=1, slot_bytes=1)

    assert len(os.listdir("/dev/fd")) == opened  # noqa: PTH208 -- as above


def test_definitions_lie_behind_all_else_and_each_is_there_once(memory: SharedMemory) -> None:
    """A lane reads them through a descriptor of its own, also those that came after it had started."""
    lane = SharedMemory(os.dup(memory.descriptor), cell_count=3, slot_count=2, slot_bytes=5)
    memory.slot(1)[:] = b"54321"

    first, second = memory.add_definition(b"first"), memory.add_definition(b"second")

    assert (first, second) == ((3 * CELL_BYTES + 10, 5), (3 * CELL_BYTES + 15, 6))
    assert memory.add_definition(b"first") == first
    assert os.fstat(memory.descriptor).st_size == 3 * CELL_BYTES + 21
    assert (lane.definition(*first), lane.definition(*second)) == (b"first", b"second")
    assert bytes(lane.slot(1)) == b"54321"
    lane.close()
