"""The parent's end of one lane: its process, its socket, and the work it has not answered yet."""

import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from worker.hashing import wire
from worker.hashing.memory import SharedMemory
from worker.hashing.streams import Stream, Work

_PACKAGE_ROOT = Path(__file__).parents[2]
_RECEIVE_BYTES = 65536
# Variables of the parent that may hold its keys; a lane needs none of them.
_SECRET_PREFIXES = ("HASH_WORKER_", "AWS_")


class LaneProcess:
    """One running lane.

    Attributes:
        index: its place in the pool; a lane that replaces it gets the same.
        is_ready: it has said that it is up.
        works: what it was sent and has not answered, in order.
        silent_ticks: how often the pool's watchdog has come by since it owed an answer and gave none.
        socket: readable when answers are there, or when the lane has ended.
    """

    def __init__(self, index: int, memory: SharedMemory) -> None:
        self.index = index
        self.is_ready = False
        self.works: deque[Work] = deque()
        self.silent_ticks = 0
        self.socket, lane_socket = socket.socketpair()
        self._answers = wire.AnswerReader()
        self._memory = memory
        self.socket.setblocking(False)  # noqa: FBT003 -- socket's own signature
        try:
            with lane_socket:
                self._process = _spawn(lane_socket, memory)
        except OSError:
            self.socket.close()
            raise

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def owes_answer(self) -> bool:
        """Whether it has a work in hand, or has yet to say that it is up."""
        return bool(self.works) or not self.is_ready

    @property
    def hashing_seconds(self) -> float:
        """How long what it has in hand should take, by its algorithms' figures."""
        return sum(work.hashing_seconds for work in self.works)

    def send(self, work: Work) -> None:
        """Order some work; if the lane has just died, its socket tells so to whoever reads it."""
        self.works.append(work)
        # Never blocks: the few works that a lane may owe are far smaller than the socket's buffer.
        with suppress(ConnectionError):
            self.socket.sendall(wire.encode_order(self._order(work)))

    def receive(self) -> list[wire.Answer]:
        """Take the answers that are there.

        Raises:
            EOFError: the lane has ended.
        """
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self.silent_ticks = 0
        return list(self._answers.feed(data))

    def kill(self) -> None:
        """End the process, also a stopped one; its socket tells when it has ended. Twice is fine."""
        self._process.kill()

    def bury(self) -> int:
        """End the process, wait until it touches no memory, and give its exit status. Twice is fine."""
        self.kill()
        self.socket.close()
        return self._process.wait()

    def _order(self, work: Work) -> wire.Order:
        return wire.Order(
            hashers=tuple(self._ref(stream, work) for stream in work.streams),
            pieces=tuple((piece.slot.index, piece.length) for piece in work.pieces),
            start=work.start,
            end=work.end,
            turn=work.turn,
        )

    def _ref(self, stream: Stream, work: Work) -> wire.HasherRef:
        is_all = work.start and work.end  # then the state needs no place where others find it
        added = stream.algorithm.definition
        return wire.HasherRef(
            stream.algorithm.name,
            stream.number,
            None if is_all else stream.cell,
            None if added is None else self._memory.add_definition(added),
        )

    def __repr__(self) -> str:
        return f"<LaneProcess {self.index}, pid {self.pid}, {len(self.works)} works>"


def _spawn(lane_socket: socket.socket, memory: SharedMemory) -> subprocess.Popen[bytes]:
    # Not multiprocessing: this imports nothing of the caller's, needs no helper process, and is up in 50 ms.
    search_path = [str(_PACKAGE_ROOT), *filter(None, sys.path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_SECRET_PREFIXES)}
    descriptors = (memory.descriptor, lane_socket.fileno())
    measures = (memory.cell_count, memory.slot_count, memory.slot_bytes)
    numbers = map(str, (os.getpid(), *descriptors, *measures))
    return subprocess.Popen(  # noqa: S603 -- our own interpreter and module, and six numbers
        # -P: no module is taken from the current folder. -S: the search path is the parent's, already whole.
        [sys.executable, "-P", "-S", "-m", "worker.hashing.lane", *numbers],
        env={**environment, "PYTHONPATH": os.pathsep.join(search_path)},
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C in a terminal goes to the parent's group, even before a lane can ignore it
    )
