"""The memory that the parent and its lanes share: cells for hash contexts first, then the slots."""

import mmap
import os
import tempfile
from contextlib import suppress

from worker.hashing.contexts import CELL_BYTES

# include/uapi/asm-generic/mman-common.h; Python's mmap has no name for it.
_MADV_POPULATE_WRITE = 23


class SharedMemory:
    """One anonymous file, mapped.

    It has no name in any folder: nothing is left behind however the processes end, and Docker's 64 MB of
    /dev/shm do not matter. A page costs memory once it was written: unused cells and slots are free.

    Args:
        descriptor: the file; closed by `close`.
        cell_count: how many cells of `CELL_BYTES` there are.
        slot_count: how many slots there are.
        slot_bytes: the size of each.
    """

    def __init__(self, descriptor: int, *, cell_count: int, slot_count: int, slot_bytes: int) -> None:
        self.descriptor = descriptor
        self.cell_count = cell_count
        self.slot_count = slot_count
        self.slot_bytes = slot_bytes
        self._map = mmap.mmap(descriptor, self._slot_offset(slot_count))
        self._bytes = memoryview(self._map)

    @classmethod
    def create(cls, *, cell_count: int, slot_count: int, slot_bytes: int) -> "SharedMemory":
        """Make a new file and map it."""
        descriptor = _anonymous_file()
        os.ftruncate(descriptor, cell_count * CELL_BYTES + slot_count * slot_bytes)
        return cls(descriptor, cell_count=cell_count, slot_count=slot_count, slot_bytes=slot_bytes)

    def populate(self) -> None:
        """Take all pages from the system now, instead of one by one while the first objects come.

        That costs some 0.5 s a GB. So the first objects are read as fast as all others, and what a worker
        needs does not grow. Does nothing where the system can't (Linux before 5.14).
        """
        with suppress(OSError):
            self._map.madvise(_MADV_POPULATE_WRITE)

    def cell(self, index: int) -> memoryview:
        """Give one cell's bytes."""
        return self._bytes[index * CELL_BYTES : (index + 1) * CELL_BYTES]

    def slot(self, index: int) -> memoryview:
        """Give one slot's bytes."""
        return self._bytes[self._slot_offset(index) : self._slot_offset(index + 1)]

    def close(self) -> None:
        """Give the file back; the mapping goes when the last view of it does. Twice is fine."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _slot_offset(self, index: int) -> int:
        return self.cell_count * CELL_BYTES + index * self.slot_bytes


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hash-worker")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
