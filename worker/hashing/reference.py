"""The plain way to hash, obviously right: one process, one algorithm after the other. Nobody optimises this.

It is the oracle that the lanes are tested against, so it shares no code with them.
"""

import hashlib
from collections.abc import Iterable

import xxhash
from awscrt import checksums
from blake3 import blake3


def hash_bytes(data: bytes, names: Iterable[str]) -> dict[str, bytes]:
    """Give the digest of the data by each of the algorithms named.

    Raises:
        ValueError: there is no such algorithm.
    """
    return {name: _digest(data, name) for name in names}


def hash_pieces(pieces: Iterable[bytes], names: Iterable[str]) -> dict[str, bytes]:
    """Give the digests of all pieces, one after the other; no piece at all is the empty input."""
    return hash_bytes(b"".join(pieces), names)


def _digest(data: bytes, name: str) -> bytes:
    match name:
        case "blake3":
            return blake3(data).digest()
        case "xxh3-64":
            return xxhash.xxh3_64(data).digest()
        case "xxh3-128":
            return xxhash.xxh3_128(data).digest()
        case "crc32c":
            return int(checksums.crc32c(data)).to_bytes(4, "big")
        case "crc64nvme":
            return int(checksums.crc64nvme(data)).to_bytes(8, "big")
        case _:
            return hashlib.new(name.replace("-", "_"), data, usedforsecurity=False).digest()
