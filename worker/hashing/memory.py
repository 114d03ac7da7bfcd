"""The memory that the parent and its lanes share: cells for hash states first, then the slots.

Behind them the file grows by the definitions of added algorithms.
"""

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from worker.hashing.contexts import STATE_BYTES
from worker.hashing.errors import SharedMemoryError

# A cell keeps the state before each work that a lane may have in hand, and the one that the last of them
# leaves: for two works these are three. So what a lane has not answered can be done again.
STATES_PER_CELL = 3
CELL_BYTES = STATES_PER_CELL * STATE_BYTES
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
        self._definitions: dict[bytes, tuple[int, int]] = {}

    @classmethod
    def create(cls, *, cell_count: int, slot_count: int, slot_bytes: int) -> "SharedMemory":
        """Make a new file and map it.

        Raises:
            SharedMemoryError: the system does not allow so large a file, or has no room to map it.
        """
        descriptor = _anonymous_file()
        try:
            with _explained(slot_count, slot_bytes):
                os.ftruncate(descriptor, cell_count * CELL_BYTES + slot_count * slot_bytes)
                return cls(descriptor, cell_count=cell_count, slot_count=slot_count, slot_bytes=slot_bytes)
        except SharedMemoryError:
            os.close(descriptor)
            raise

    def populate(self) -> None:
        """Take all pages from the system now, instead of one by one while the first objects come.

        That costs some 0.5 s a GB. So the first objects are read as fast as all others, what a worker needs
        does not grow, and a page that the system does not have is an error here instead of a SIGBUS later.

        Raises:
            SharedMemoryError: the system has not so many pages.
        """
        with _explained(self.slot_count, self.slot_bytes):
            try:
                self._map.madvise(_MADV_POPULATE_WRITE)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                if hasattr(os, "posix_fallocate"):  # Linux before 5.14: reserved, not mapped yet
                    os.posix_fallocate(self.descriptor, 0, len(self._map))

    def state(self, cell: int, turn: int) -> memoryview:
        """Give the bytes of one of a cell's states; turns go round."""
        start = cell * CELL_BYTES + turn % STATES_PER_CELL * STATE_BYTES
        return self._bytes[start : start + STATE_BYTES]

    def slot(self, index: int) -> memoryview:
        """Give one slot's bytes."""
        return self._bytes[self._slot_offset(index) : self._slot_offset(index + 1)]

    def add_definition(self, definition: bytes) -> tuple[int, int]:
        """Write an added algorithm's definition behind all else; give its place and length.

        The same one again is there already. So the file grows by a few KB each time a program registers
        another algorithm, or the same one with other code.
        """
        if definition not in self._definitions:
            place = os.fstat(self.descriptor).st_size
            os.pwrite(self.descriptor, definition, place)
            self._definitions[definition] = place, len(definition)
        return self._definitions[definition]

    def definition(self, place: int, length: int) -> bytes:
        """Read a definition that the parent has written."""
        return os.pread(self.descriptor, length, place)

    def close(self) -> None:
        """Give the file back; the mapping goes when the last view of it does. Twice is fine."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _slot_offset(self, index: int) -> int:
        return self.cell_count * CELL_BYTES + index * self.slot_bytes


@contextmanager
def _explained(slot_count: int, slot_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SharedMemoryError(slot_count, slot_bytes, error.strerror or str(error)) from error


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hash-worker")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
