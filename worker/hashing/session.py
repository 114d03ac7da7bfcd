"""One object's way through the lanes: pieces in, digests out."""

from collections.abc import Callable, Sequence

from worker.hashing.algorithms import Algorithm
from worker.hashing.scheduler import Scheduler
from worker.hashing.slots import Slot, SlotRing
from worker.hashing.streams import SessionState


class Session:
    """The hashers of one object while it is being read; made by `LanePool.open_session`.

    Args:
        state: the session as the scheduler knows it.
        algorithms: what it hashes with, in the order asked for.
        size_bytes: the object's size if it is known: the digests then come with the last piece.
        scheduler: where fed pieces are queued.
        slots: where slots go back to when every algorithm has read them.
        dispatch: hands to the lanes what the scheduler has for them.
    """

    def __init__(
        self,
        state: SessionState,
        algorithms: Sequence[Algorithm],
        size_bytes: int | None,
        *,
        scheduler: Scheduler,
        slots: SlotRing,
        dispatch: Callable[[], None],
    ) -> None:
        self._algorithms = tuple(algorithms)
        self._size_bytes = size_bytes
        self._state = state
        self._scheduler = scheduler
        self._slots = slots
        self._dispatch = dispatch
        self._is_asked = False

    def feed(self, slot: Slot, length: int) -> None:
        """Hash the first `length` bytes of a slot after all that was fed before.

        The slot is the session's from here on, also when this raises; it goes back to the ring when every
        algorithm has read it.

        Raises:
            HashingError: the session has failed already.
            ValueError: `length` is not between 1 and the slot's size, or more than `size_bytes` came in all.
            RuntimeError: the session was asked for its digests, or left.
        """
        try:
            self._check_piece(slot, length)
        except Exception:
            self._slots.release(slot)
            raise
        self._scheduler.feed(self._state, slot, length)
        self._state.is_closed = self._state.fed_bytes == self._size_bytes
        self._dispatch()

    async def digests(self) -> dict[str, bytes]:
        """Wait for the digests of all that was fed, by the algorithms' names in the order asked for.

        Nothing fed gives the digests of the empty input. To be called once.

        Raises:
            HashingError: the session has failed.
            ValueError: fewer bytes came than `size_bytes`: the digest of a part is no digest.
            RuntimeError: called twice, or after the session was left.
        """
        state = self._state
        if self._is_asked:
            raise RuntimeError("A session gives its digests only once.")
        if state.failure is None and self._size_bytes not in (None, state.fed_bytes):
            raise ValueError(f"{state.fed_bytes} of {self._size_bytes} bytes were fed; a part has no digest.")
        self._is_asked = True
        state.is_closed = True
        self._dispatch()
        await state.settled.wait()
        if state.failure is not None:
            raise state.failure
        if not state.is_complete:
            raise RuntimeError("The session was left before its digests were there.")
        return {algorithm.name: state.digests[algorithm.name] for algorithm in self._algorithms}

    def _check_piece(self, slot: Slot, length: int) -> None:
        state = self._state
        if state.failure is not None:
            raise state.failure
        if not 0 < length <= slot.size_bytes:
            raise ValueError(f"A piece of {length} bytes was fed in a slot of {slot.size_bytes}.")
        if self._size_bytes is not None and state.fed_bytes + length > self._size_bytes:
            raise ValueError(f"{state.fed_bytes + length} bytes were fed of an object of {self._size_bytes}.")
        if state.is_closed:
            raise RuntimeError("The session takes no more pieces: it was asked for its digests, or left.")

    def __repr__(self) -> str:
        names = "+".join(algorithm.name for algorithm in self._algorithms)
        return f"<Session {names}, {self._state.fed_bytes} bytes, {len(self._state.digests)} digests>"
