"""Hash contexts in cells of shared memory, so that any lane can go on where another one stopped or died.

OpenSSL's old entry points (`MD5_Init`, `MD5_Update`, `MD5_Final` and their like) work on plain C structs
without pointers, at the full speed of hashlib, and `_hashlib` is linked to the library that has them. A CRC's
context is its value. So these bytes are the whole state: they may be copied out and, later or elsewhere,
back in.

Where Python was built without these entry points `is_shareable` says so, and the algorithm's own hasher has
to do.
"""

import ctypes
import hashlib
from functools import cache

from worker.hashing.algorithms import Algorithm, Hasher
from worker.hashing.crc import CrcHasher

# The largest context is SHA512_CTX with 216 bytes; MD5_CTX has 92, SHA_CTX 96, SHA256_CTX 112, a CRC 4 or 8.
STATE_BYTES = 256


class _OpenSSLHasher:
    """A hasher over one of OpenSSL's own structs, wherever that lies.

    Args:
        name: OpenSSL's prefix, such as "SHA256".
        digest_bytes: the length of its digest.
        state: the struct's memory, writable.
        start: begin anew instead of going on with what is there.
    """

    def __init__(self, name: str, digest_bytes: int, state: memoryview, *, start: bool) -> None:
        library = _openssl()
        self._update = library[f"{name}_Update"]
        self._final = library[f"{name}_Final"]
        self._context = ctypes.byref(ctypes.c_char.from_buffer(state))
        self._digest = ctypes.create_string_buffer(digest_bytes)
        if start:
            _check(library[f"{name}_Init"](self._context))

    def update(self, data: memoryview) -> None:
        if data:
            pointer = ctypes.byref(ctypes.c_char.from_buffer(data))
            _check(self._update(self._context, pointer, ctypes.c_size_t(len(data))))

    def digest(self) -> bytes:
        """Give the digest; this uses the context up."""
        _check(self._final(self._digest, self._context))
        return self._digest.raw


@cache
def _openssl() -> ctypes.CDLL:
    import _hashlib  # noqa: PLC0415 -- a Python without OpenSSL has none: ImportError, or no __file__

    return ctypes.CDLL(_hashlib.__file__)


def _check(returned: int) -> None:
    if returned != 1:
        raise RuntimeError(f"OpenSSL returned {returned} instead of 1.")


def open_context(algorithm: Algorithm, state: memoryview, *, start: bool) -> Hasher:
    """Make a hasher over a state in memory.

    Args:
        algorithm: one that `is_shareable`.
        state: `STATE_BYTES` writable bytes, which change with every update.
        start: begin anew; otherwise go on from the state as it is.
    """
    if algorithm.context == "crc":
        value = state[: algorithm.digest_bytes]
        if start:
            value[:] = bytes(len(value))
        return CrcHasher(algorithm.name, value)
    return _OpenSSLHasher(algorithm.name.upper(), algorithm.digest_bytes, state, start=start)


@cache
def is_shareable(algorithm: Algorithm) -> bool:
    """Tell whether this machine can keep the algorithm's state in a cell; tried once, with three bytes."""
    if algorithm.context != "openssl":
        return algorithm.context is not None
    try:
        hasher = open_context(algorithm, memoryview(bytearray(STATE_BYTES)), start=True)
        hasher.update(memoryview(bytearray(b"abc")))
        return hasher.digest() == hashlib.new(algorithm.name, b"abc", usedforsecurity=False).digest()
    except (ImportError, AttributeError, OSError, RuntimeError):
        return False
