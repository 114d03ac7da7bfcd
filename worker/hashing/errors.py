"""What can go wrong between bytes and digests.

    HashingError
    ├── trying again may help
    │   └── LaneDiedError
    └── trying again cannot help
        ├── UnknownAlgorithmError
        ├── BadAlgorithmError
        ├── SharedMemoryError
        └── HasherFailedError

Misuse by a caller, such as feeding more bytes than were announced, is a ValueError or a RuntimeError.
"""

from collections.abc import Iterable
from typing import ClassVar


class HashingError(Exception):
    """Digests could not be made."""

    code: ClassVar[str] = "hashing_failed"


class UnknownAlgorithmError(HashingError):
    """Somebody asked for an algorithm that the registry does not have."""

    code = "unknown_algorithm"

    def __init__(self, names: Iterable[str], known: Iterable[str]) -> None:
        self.names = tuple(names)
        self.known = tuple(known)
        unknown = ", ".join(repr(name) for name in self.names)
        super().__init__(f"There is no hash algorithm called {unknown}; choose from {', '.join(self.known)}.")


class BadAlgorithmError(HashingError):
    """An algorithm that was added can't be used; the reason is a clause that goes on after a colon."""

    code = "bad_algorithm"

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"The hash algorithm {name!r} can't be used: {reason}")


class LaneDiedError(HashingError):
    """A lane ended with a state that is nowhere else, or several lanes ended over the same piece.

    The object has to be hashed again from its first byte.
    """

    code = "lane_died"

    def __init__(self, pid: int, exit_status: int, advice: str = "hash the object again") -> None:
        self.pid = pid
        self.exit_status = exit_status
        how = f"killed by signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
        super().__init__(f"Hashing lane {pid} ended ({how}); {advice}.")


class SharedMemoryError(HashingError):
    """The system does not give the memory for the slots; smaller slots, or a larger machine, are needed."""

    code = "no_shared_memory"

    def __init__(self, slot_count: int, slot_bytes: int, reason: str) -> None:
        self.slot_count = slot_count
        self.slot_bytes = slot_bytes
        self.needed_bytes = slot_count * slot_bytes
        self.reason = reason
        super().__init__(
            f"The system gives no {self.needed_bytes} bytes of shared memory for {slot_count} slots of "
            f"{slot_bytes} bytes ({reason}); make hashing.slots or hashing.slot_bytes smaller."
        )


class HasherFailedError(HashingError):
    """A hasher raised an error of its own, or could not be made in its lane, or gave no right digest."""

    code = "hasher_failed"

    def __init__(self, algorithm: str, reason: str) -> None:
        self.algorithm = algorithm
        self.reason = reason
        super().__init__(f"Hashing with {algorithm} failed: {reason.removesuffix('.')}.")
