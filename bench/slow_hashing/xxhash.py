"""Stands in for the library of the same name in the lanes of `bench.many_workers`: its hashing takes a while.

A lane loads a library when the first of its hashers is made. With this folder on PYTHONPATH it finds
this one, so nothing of the worker is changed. It sleeps in proportion to the bytes, which takes no core.
"""

import hashlib
import time

BYTES_PER_SECOND = 320 * 1024
"""Of one lane: 0.2 s for a file of 64 KiB."""
DIGEST_BYTES = 8


class _SlowHasher:
    """The digest is blake2b's, so that whoever measures can tell which bytes it has seen."""

    def __init__(self) -> None:
        self._hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def update(self, data: memoryview) -> None:
        self._hasher.update(data)
        time.sleep(len(data) / BYTES_PER_SECOND)

    def digest(self) -> bytes:
        return self._hasher.digest()


def xxh3_64() -> _SlowHasher:
    """Make a hasher that has seen no byte."""
    return _SlowHasher()
