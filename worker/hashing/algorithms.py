"""Our own algorithms, a row each: adding one is adding its row and its published vectors.

Those that others add are in registry.py. Importing this module is cheap: a library is loaded when the first
of its hashers is made.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from worker.hashing.crc import CrcHasher


class Hasher(Protocol):
    """The one interface of every algorithm: new, update any number of times, digest."""

    def update(self, data: memoryview, /) -> object:
        """Take the next bytes; none at all is fine."""

    def digest(self) -> bytes:
        """Give the digest of all bytes so far."""


class Algorithm(NamedTuple):
    """One algorithm.

    Attributes:
        name: how payloads, settings and the command line call it.
        label: how messages to people call it.
        digest_bits: the width of its digest.
        new: makes a hasher that has seen no byte.
        seconds_per_gb: CPU seconds for 1e9 bytes on a server core with SHA extensions; the dearest algorithm
            is scheduled first.
        context: the kind of context that can live in shared memory (see contexts.py); None where the state
            can't leave its hasher.
        definition: what a lane makes the hashers of an added algorithm from (see definitions.py); None: built
            in.
    """

    name: str
    label: str
    digest_bits: int
    new: Callable[[], Hasher]
    seconds_per_gb: float
    context: Literal["openssl", "crc"] | None = None
    definition: bytes | None = None

    @property
    def digest_bytes(self) -> int:
        """The length of its digest."""
        return self.digest_bits // 8


def _hashlib(name: str) -> Callable[[], Hasher]:
    # usedforsecurity=False: a machine in FIPS mode must still be able to check an archive's old md5.
    return partial(hashlib.new, name, usedforsecurity=False)


def _crc(name: str, digest_bits: int) -> Callable[[], Hasher]:
    return lambda: CrcHasher(name, memoryview(bytearray(digest_bits // 8)))


def _blake3() -> Hasher:
    from blake3 import blake3  # noqa: PLC0415 -- only those who want it load it

    return blake3(max_threads=1)  # the lanes already use every core


def _xxh3_64() -> Hasher:
    import xxhash  # noqa: PLC0415 -- only those who want it load it

    return xxhash.xxh3_64()


def _xxh3_128() -> Hasher:
    import xxhash  # noqa: PLC0415 -- only those who want it load it

    return xxhash.xxh3_128()


# blake2 by OpenSSL's names: its code is 10 to 30 % faster than CPython 3.11's own.
_ROWS = (
    Algorithm("md5", "MD5", 128, _hashlib("md5"), 1.5, "openssl"),
    Algorithm("sha1", "SHA1", 160, _hashlib("sha1"), 0.6, "openssl"),
    Algorithm("sha224", "SHA224", 224, _hashlib("sha224"), 0.65, "openssl"),
    Algorithm("sha256", "SHA256", 256, _hashlib("sha256"), 0.65, "openssl"),
    Algorithm("sha384", "SHA384", 384, _hashlib("sha384"), 1.4, "openssl"),
    Algorithm("sha512", "SHA512", 512, _hashlib("sha512"), 1.4, "openssl"),
    Algorithm("sha3-256", "SHA3-256", 256, _hashlib("sha3_256"), 2.3),
    Algorithm("sha3-512", "SHA3-512", 512, _hashlib("sha3_512"), 4.5),
    Algorithm("blake2b", "BLAKE2b", 512, _hashlib("blake2b512"), 1.2),
    Algorithm("blake2s", "BLAKE2s", 256, _hashlib("blake2s256"), 1.7),
    Algorithm("blake3", "BLAKE3", 256, _blake3, 0.2),
    Algorithm("crc32c", "CRC32C", 32, _crc("crc32c", 32), 0.04, "crc"),
    Algorithm("crc64nvme", "CRC64NVME", 64, _crc("crc64nvme", 64), 0.06, "crc"),
    Algorithm("xxh3-64", "XXH3-64", 64, _xxh3_64, 0.02),
    Algorithm("xxh3-128", "XXH3-128", 128, _xxh3_128, 0.02),
)

ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType({row.name: row for row in _ROWS})

DEFAULT_ALGORITHMS = ("md5", "sha1", "sha256", "blake3")
