"""A lane: the process that hashes. It does what its parent orders, and ends when the parent is gone.

lane_process.py runs it with six numbers: the parent's process id, the descriptors of memory and socket, and
the memory's measures.
"""

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from worker.hashing import wire
from worker.hashing.added_code import ended_children
from worker.hashing.algorithms import ALGORITHMS, Hasher
from worker.hashing.contexts import open_context
from worker.hashing.definitions import one_line, unpack
from worker.hashing.memory import SharedMemory
from worker.hashing.trial import repeat_trial

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


class Lane:
    """The shared memory, and those hashers whose state can't live there, by their numbers."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._hashers: dict[int, Hasher] = {}
        self._added: dict[tuple[int, int], Callable[[], Hasher]] = {}

    def perform(self, order: wire.Order) -> wire.Answer:
        """Do what the order says; whatever a hasher raises becomes the answer."""
        pieces = [self._memory.slot(slot)[:length] for slot, length in order.pieces]
        digests = []
        try:
            for ref in order.hashers:
                hasher = self._hasher(ref, order)
                for piece in pieces:
                    hasher.update(piece)
                if order.end:
                    digests.append(hasher.digest())
                    self._hashers.pop(ref.number, None)
        # Not even what means to end the process may cost more than one session.
        except BaseException as error:  # noqa: BLE001 -- as above
            for each in order.hashers:
                self._hashers.pop(each.number, None)
            return wire.Answer(b"", failure=wire.Failure(ref.algorithm, one_line(error)))
        return wire.Answer(b"".join(digests))

    def _hasher(self, ref: wire.HasherRef, order: wire.Order) -> Hasher:
        if ref.cell is not None:
            # The old state stays as it was: if this lane dies, another one goes on from there.
            state = self._memory.state(ref.cell, order.turn + 1)
            if not order.start:
                state[:] = self._memory.state(ref.cell, order.turn)
            return open_context(ALGORITHMS[ref.algorithm], state, start=order.start)
        if order.start:
            self._hashers[ref.number] = self._new(ref)
        return self._hashers[ref.number]

    def _new(self, ref: wire.HasherRef) -> Hasher:
        if ref.definition is None:
            return ALGORITHMS[ref.algorithm].new()
        if ref.definition not in self._added:
            with ended_children():
                new, trial_digests = unpack(self._memory.definition(*ref.definition))
                repeat_trial(new, trial_digests)
            self._added[ref.definition] = new
        return self._added[ref.definition]()

    def __repr__(self) -> str:
        return f"<Lane {len(self._hashers)} hashers of its own>"


def serve(parent: socket.socket, memory: SharedMemory) -> None:
    """Perform orders until the parent is gone, which may show in reading or in answering."""
    lane = Lane(memory)
    # OSError: also a child that a hasher has forked, which has no socket any more.
    with suppress(OSError), parent.makefile("rb") as orders:
        parent.sendall(wire.READY)
        while order := wire.read_order(orders):
            parent.sendall(wire.encode_answer(lane.perform(order)))


def _die_with(parent_pid: int) -> None:
    """Have the system kill this process when its parent is gone, even while it is stopped or stuck.

    Linux counts the thread that started this process as its parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent_pid:  # it was gone already
        raise SystemExit


def _close(parent: socket.socket) -> None:
    """Close a socket at once, also one that a file still reads from. Twice is fine."""
    with suppress(OSError):
        os.close(parent.detach())


def main() -> None:
    """Run one lane."""
    # A service manager may signal every process of a service; how the lanes end is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent_pid, memory_fd, socket_fd, cell_count, slot_count, slot_bytes = map(int, sys.argv[1:])
    _die_with(parent_pid)
    memory = SharedMemory(memory_fd, cell_count=cell_count, slot_count=slot_count, slot_bytes=slot_bytes)
    with socket.socket(fileno=socket_fd) as parent:
        # A hasher's child that lives on would hide this lane's death, or answer in its place.
        os.register_at_fork(after_in_child=partial(_close, parent))
        serve(parent, memory)


if __name__ == "__main__":
    main()
