"""The trial of an added algorithm: a few bytes, hashed where it is added and again in each lane."""

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest

from worker.hashing.algorithms import Hasher

_PATTERN = bytes(range(251)) * 5
# In pieces: nothing, the same bytes twice, and others.
_CONTENTS = ((), (_PATTERN,), (_PATTERN[:1], _PATTERN[1:700], _PATTERN[700:]), (b"abc",))


def trial_digests(new: Callable[[], Hasher]) -> list[bytes]:
    """Hash each of the contents in turns, all out of one slot that is used again, as a lane does.

    Returns:
        The digests of nothing, of some bytes whole, of the same bytes cut, and of others.
    """
    slot = memoryview(bytearray(max(map(len, chain(*_CONTENTS)))))
    hashers = [new() for _ in _CONTENTS]
    for pieces in zip_longest(*_CONTENTS):
        for hasher, piece in zip(hashers, pieces, strict=True):
            if piece is not None:
                slot[: len(piece)] = piece
                hasher.update(slot[: len(piece)])
    return [hasher.digest() for hasher in hashers]


def repeat_trial(new: Callable[[], Hasher], digests: Sequence[bytes]) -> None:
    """Make sure, in a lane, that the trial gives the digests that it gave where the algorithm was added.

    Raises:
        ValueError: it gives others, and would so in another lane and at another time.
    """
    if trial_digests(new) != list(digests):
        raise ValueError(
            "the same bytes gave another digest in the process that added it; a digest may depend on nothing "
            "of its process, such as hash() or os.getpid()"
        )
