"""One range on its way into memory: what is asked for, what was answered, how far it has come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.storage.ranges import RangeAnswer, check_answer, pinned_by, range_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.storage.access import StoreLimits
    from worker.storage.object_version import ObjectAddress, ObjectVersion


@dataclass(slots=True)
class RateFloor:
    """The bound on a storage's silence: a window that brings enough bytes earns the next one.

    Args:
        silence: The timeout that ends the request.
        limits: The window, and the least bytes a second in it.
        on_bytes: Is called at each piece of a body.
    """

    silence: asyncio.Timeout
    limits: StoreLimits
    on_bytes: Callable[[], None]
    received_bytes: int = 0

    def received(self, length: int) -> None:
        """Count bytes of a body."""
        self.on_bytes()
        self.received_bytes += length
        window_seconds = self.limits.stall_timeout_seconds
        if self.received_bytes >= self.limits.floor_bytes_per_second * window_seconds:
            self.received_bytes = 0
            self.silence.reschedule(asyncio.get_running_loop().time() + window_seconds)


class Filling:
    """Memory that is being filled with one range, by one request or by several, one after the other.

    It knows what the next request must ask for: the rest, from the byte reached, of the version pinned. The
    ways to the storage tell it each answer's head before the body, then each piece of the body.

    Args:
        address: Of the object.
        destination: Writable bytes.
        start: Offset in the object, in bytes.
        version: None: the first answer pins it, and tells how many bytes there are to come at most.
        on_pinned: Is told the version when an answer pins it.

    Attributes:
        rest: The part of the destination that no byte has reached yet.
        version: What was pinned.
    """

    def __init__(
        self,
        address: ObjectAddress,
        destination: memoryview,
        *,
        start: int = 0,
        version: ObjectVersion | None = None,
        on_pinned: Callable[[ObjectVersion], None] | None = None,
    ) -> None:
        self.rest = destination
        self.version = version
        self._asked_address = address
        self._start = start
        self._on_pinned = on_pinned
        self._floor: RateFloor | None = None

    def __repr__(self) -> str:
        return f"<Filling {self.address}: {len(self.rest)} bytes from {self._start} to come>"

    @property
    def address(self) -> ObjectAddress:
        """What to ask for: once pinned, with the version id that the storage told."""
        return self._asked_address if self.version is None else self.version.address

    @property
    def where(self) -> str:
        """The object, for people."""
        return str(self.address)

    @property
    def range_header(self) -> str:
        """The Range of the next request."""
        return range_header(self._start, len(self.rest))

    def watch(self, floor: RateFloor) -> None:
        """Count what the next request brings there."""
        self._floor = floor

    def accept(self, answer: RangeAnswer) -> None:
        """Let an answer's body in, or raise.

        Raises:
            StorageError: Its body is not the range asked for, or nothing can be pinned by it.
        """
        if self.version is None:
            self.pin(pinned_by(self.address, len(self.rest), answer))
        else:
            check_answer(self.version, self._start, len(self.rest), answer)

    def pin(self, version: ObjectVersion) -> None:
        """Take this version, and as many of its bytes as there are."""
        self.version = version
        self.rest = self.rest[: version.size_bytes]
        if self._on_pinned is not None:
            self._on_pinned(version)

    def advance(self, length: int) -> None:
        """Take note that the first `length` bytes of the rest have come."""
        self.rest = self.rest[length:]
        self._start += length
        if self._floor is not None:
            self._floor.received(length)
