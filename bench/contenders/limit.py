"""The limit: every core hashes from memory, and nothing is read.

Plain processes, one a core, hash equal shares of the bytes with every algorithm. No share has to wait for
another's, so all cores are busy from go to done: no program that reads the bytes as well can be faster here.
Digests of shares are no digests of the objects, so there is nothing to compare.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from bench.cases import new_hasher
from bench.work import READ_BYTES, Digests, Work

# Larger than the caches, as an object is.
_BUFFER_BYTES = 8 * READ_BYTES


_buffer = b""
"""What this process hashes; made where a pool's process begins."""


def missing() -> str:
    """Tell what is missing: nothing ever is."""
    return ""


@contextmanager
def opened(work: Work) -> Iterator[Callable[[], Digests]]:
    """Start the processes and give what hashes all shares."""
    processes = os.cpu_count() or 1
    share = (work.size_bytes // processes, work.algorithms)
    with get_context("fork").Pool(processes, initializer=_make_buffer) as pool:
        pool.map(_hash_share, [(READ_BYTES, work.algorithms)] * processes, chunksize=1)

        def hash_all() -> Digests:
            pool.map(_hash_share, [share] * processes, chunksize=1)
            return {}

        yield hash_all


def _make_buffer() -> None:
    global _buffer  # noqa: PLW0603 - a pool's process keeps what its initializer makes nowhere else
    _buffer = os.urandom(_BUFFER_BYTES)


def _hash_share(share: tuple[int, tuple[str, ...]]) -> None:
    size_bytes, algorithms = share
    hashers = [new_hasher(name) for name in algorithms]
    buffer = memoryview(_buffer)
    for start in range(0, size_bytes, READ_BYTES):
        offset = start % _BUFFER_BYTES
        piece = buffer[offset : offset + min(READ_BYTES, size_bytes - start)]
        for hasher in hashers:
            hasher.update(piece)
