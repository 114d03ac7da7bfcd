"""The memory that parent and lanes share."""

import os
from collections.abc import Iterator

import pytest

from worker.hashing.contexts import CELL_BYTES
from worker.hashing.memory import SharedMemory


@pytest.fixture(params=["memfd", "temporary file"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedMemory]:
    """Three cells and two slots of 5 bytes, with both kinds of anonymous file."""
    if request.param == "temporary file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    memory = SharedMemory.create(cell_count=3, slot_count=2, slot_bytes=5)
    yield memory
    memory.close()


def test_cells_and_slots_lie_side_by_side_and_never_overlap(memory: SharedMemory) -> None:
    """What is written into one is seen in no other."""
    parts = [memory.cell(0), memory.cell(1), memory.cell(2), memory.slot(0), memory.slot(1)]
    for number, part in enumerate(parts):
        part[:] = bytes([number]) * len(part)

    assert [len(part) for part in parts] == [CELL_BYTES, CELL_BYTES, CELL_BYTES, 5, 5]
    assert [set(part) for part in parts] == [{0}, {1}, {2}, {3}, {4}]


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
