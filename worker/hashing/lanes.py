"""The pool: it starts the lanes, hands out work, takes the answers, and replaces a lane that dies."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import structlog

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import HasherFailedError, HashingError, LaneDiedError
from worker.hashing.lane_process import LaneProcess
from worker.hashing.memory import STATES_PER_CELL, SharedMemory
from worker.hashing.scheduler import Scheduler
from worker.hashing.session import Session
from worker.hashing.slots import Slot, SlotRing
from worker.hashing.streams import SessionState, Work
from worker.hashing.wire import Answer

# One that the lane does and one that waits: a lane never idles while an answer and the next order travel.
# A cell keeps a state for each of them.
_WORKS_PER_LANE = STATES_PER_CELL - 1
# 3 MiB; a session of four algorithms takes three or four.
_CELLS = 4096
# A lane is up in 50 ms; on a machine that swaps it may take seconds.
_START_SECONDS = 60
# After so many lanes in a row that end before they are up the next one waits for its turn, like one for which
# the system has no process or descriptor left.
_FRUITLESS_STARTS = 3
_PAUSE_SECONDS = 1
# A work is some 16 ms of hashing, a whole small object or one slot: never more than a second or two.
_ANSWER_SECONDS = 30
# An added algorithm may well be slower than that, one written in Python has 1 MB/s: it may take so many times
# as long as its figure says.
_SLOWEST = 20
# The watchdog counts its ticks, not the time: after the whole worker was frozen the lanes have some left.
_ANSWER_TICKS = 3

log = structlog.get_logger()


class LanePool:
    """Lanes, slots and the sessions that share them; an async context manager. It belongs to one event loop.

    Memory: slot_count x slot_bytes, shared by all, and some 12 MB for each lane.

    Args:
        lane_count: how many processes hash; as many as there are cores.
        slot_count: how many slots there are.
        slot_bytes: the size of each.
        answer_seconds: how long a lane may be silent with work in hand, before it is killed and replaced.

    Attributes:
        slots: the ring to take slots from.
        lane_count: as given.
        deaths: how many lanes have ended by themselves since the start.

    Raises:
        SharedMemoryError: the system does not allow so much memory.
    """

    def __init__(
        self, lane_count: int, slot_count: int, slot_bytes: int, *, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        if lane_count < 1:
            raise ValueError(f"A pool of {lane_count} lanes cannot hash; it needs at least 1.")
        self._memory = SharedMemory.create(cell_count=_CELLS, slot_count=slot_count, slot_bytes=slot_bytes)
        views = [self._memory.slot(index) for index in range(slot_count)]
        self.slots = SlotRing(slot_count, slot_bytes, views=views)
        self.lane_count = lane_count
        self._scheduler = Scheduler(lane_count, _CELLS)
        self._lanes: dict[int, LaneProcess] = {}
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._fruitless_starts = 0
        self.deaths = 0
        self._tick_seconds = answer_seconds / _ANSWER_TICKS
        self._next_tick: asyncio.TimerHandle | None = None
        self._failure: LaneDiedError | None = None
        self._up = asyncio.Event()

    @property
    def lane_pids(self) -> tuple[int, ...]:
        """The process ids of the lanes that there are, in the lanes' order."""
        return tuple(self._lanes[index].pid for index in sorted(self._lanes))

    @property
    def busy_count(self) -> int:
        """How many lanes have work in hand."""
        return sum(bool(lane.works) for lane in self._lanes.values())

    async def start(self) -> None:
        """Start the lanes and wait until all of them are up, some 50 ms.

        The thread that runs the event loop must live as long as the pool: on Linux its lanes die with it.

        Raises:
            SharedMemoryError: the system has not so much memory.
            LaneDiedError: lanes end as soon as they start; what they wrote to standard error says why.
            OSError: the system has no process or descriptor left for a lane.
            TimeoutError: a lane was not up within a minute.
        """
        try:
            for index in range(self.lane_count):
                self._start_lane(index)
            self._memory.populate()  # while the lanes come up
            self._watch()
            async with asyncio.timeout(_START_SECONDS):
                await self._up.wait()
            self._check()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the lanes and every session; a pool is not started again. Twice is fine."""
        if self._next_tick is not None:
            self._next_tick.cancel()
        while self._pauses:
            self._pauses.popitem()[1].cancel()
        while self._lanes:
            _, lane = self._lanes.popitem()
            failure = self._bury(lane)
            for session in self._scheduler.sessions:
                self._fail(session, failure)
        self.slots.close()
        self._memory.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def open_session(
        self, algorithms: Sequence[Algorithm], size_bytes: int | None = None
    ) -> AsyncIterator[Session]:
        """Open a session for one object, to be used as `async with pool.open_session(...) as session`.

        The block may be left at any time, also by an exception or cancellation; every slot that was fed goes
        back to the ring, those that a lane still reads as soon as it has done with them.

        Args:
            algorithms: what to hash with, as `resolve` gives them.
            size_bytes: the object's size if it is known, which saves a round trip at its end.

        Raises:
            LaneDiedError: no lane lives, and none could be started so far.
            RuntimeError: the pool is not running.
        """
        self._check()
        state = self._scheduler.open(algorithms)
        try:
            yield Session(
                state,
                algorithms,
                size_bytes,
                scheduler=self._scheduler,
                slots=self.slots,
                dispatch=self._dispatch,
            )
        finally:
            self._release(self._scheduler.abandon(state))
            self._dispatch()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._lanes:
            raise RuntimeError("The pool has no lanes: it was not started, or was closed.")

    def _start_lane(self, index: int) -> None:
        lane = LaneProcess(index, self._memory)
        asyncio.get_running_loop().add_reader(lane.socket, self._receive, lane)
        self._lanes[index] = lane

    def _dispatch(self) -> None:
        """Give work to every lane that has room, one work each before anyone gets a second."""
        for most_works in range(1, _WORKS_PER_LANE + 1):
            for lane in self._lanes.values():
                has_room = lane.is_ready and len(lane.works) < most_works
                if has_room and (work := self._scheduler.choose(lane.index)):
                    lane.send(work)

    def _receive(self, lane: LaneProcess) -> None:
        try:
            for answer in lane.receive():
                if not lane.owes_answer:
                    # Nobody knows which work each of its answers is of.
                    log.warning("A hashing lane answers unasked and is killed", pid=lane.pid)
                    raise EOFError  # noqa: TRY301 -- it is replaced like one that has ended
                self._take(lane, answer)
        except EOFError:
            self._replace(lane)
        self._dispatch()

    def _take(self, lane: LaneProcess, answer: Answer) -> None:
        if not lane.is_ready:
            lane.is_ready = True
            self._fruitless_starts = 0
            self._failure = None
            self._scheduler.open_lanes.add(lane.index)
            if sum(other.is_ready for other in self._lanes.values()) == self.lane_count:
                self._up.set()
            return
        work = lane.works.popleft()
        if answer.failure is not None:
            self._fail(work.session, HasherFailedError(*answer.failure))
        elif work.end:
            work.session.deliver(_split(work, answer.digests))
        self._release(self._scheduler.settle(work))

    def _watch(self) -> None:
        """Kill the lanes that owe an answer for too long; they are replaced as soon as they have ended."""
        for lane in self._lanes.values():
            patience_seconds = _SLOWEST * lane.hashing_seconds if lane.is_ready else _START_SECONDS
            most_ticks = max(_ANSWER_TICKS, patience_seconds / self._tick_seconds)
            lane.silent_ticks = lane.silent_ticks + 1 if lane.owes_answer else 0
            if lane.silent_ticks > most_ticks:
                log.warning("A hashing lane gives no answer and is killed", pid=lane.pid)
                lane.kill()
        self._next_tick = asyncio.get_running_loop().call_later(self._tick_seconds, self._watch)

    def _replace(self, dead: LaneProcess) -> None:
        del self._lanes[dead.index]
        self.deaths += 1
        failure = self._bury(dead)
        log.warning("A hashing lane died", pid=failure.pid, exit_status=failure.exit_status)
        self._fruitless_starts += not dead.is_ready
        if dead.is_ready or self._fruitless_starts < _FRUITLESS_STARTS:
            self._start_again(dead.index, failure)
        else:
            self._pause(dead.index, failure)

    def _start_again(self, index: int, failure: LaneDiedError) -> None:
        """Start a lane in the place of one that died, or try so later."""
        self._pauses.pop(index, None)
        try:
            self._start_lane(index)
        except OSError as error:
            log.warning("A hashing lane could not be started", reason=str(error))
            self._pause(index, failure)

    def _pause(self, index: int, failure: LaneDiedError) -> None:
        """Start a lane later; if none is left for now, fail the sessions instead of letting them wait."""
        loop = asyncio.get_running_loop()
        self._pauses[index] = loop.call_later(_PAUSE_SECONDS, self._start_again, index, failure)
        self._scheduler.close_lane(index)
        if not self._scheduler.open_lanes:
            advice = "no other could be started, see standard error"
            self._failure = LaneDiedError(failure.pid, failure.exit_status, advice)
            self._up.set()
            for session in self._scheduler.sessions:
                self._fail(session, self._failure)

    def _bury(self, lane: LaneProcess) -> LaneDiedError:
        """End a lane, fail the sessions that can't go on without what it had, and take back its works."""
        asyncio.get_running_loop().remove_reader(lane.socket)
        failure = LaneDiedError(lane.pid, lane.bury())
        for session in self._scheduler.lose(lane.index, lane.works):
            self._fail(session, failure)
        while lane.works:
            self._release(self._scheduler.take_back(lane.works.pop()))
        return failure

    def _fail(self, session: SessionState, failure: HashingError) -> None:
        session.fail(failure)
        self._release(self._scheduler.abandon(session))

    def _release(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            self.slots.release(slot)

    def __repr__(self) -> str:
        sessions = len(self._scheduler.sessions)
        return f"<LanePool {len(self._lanes)} lanes, {sessions} sessions, {self.slots!r}>"


def _split(work: Work, digests: bytes) -> Iterator[tuple[str, bytes]]:
    for stream in work.streams:
        digest, digests = digests[: stream.algorithm.digest_bytes], digests[stream.algorithm.digest_bytes :]
        yield stream.algorithm.name, digest
