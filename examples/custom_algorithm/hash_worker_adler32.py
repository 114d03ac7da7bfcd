"""Adler-32 (RFC 1950), the checksum of zlib streams."""

import zlib


class Adler32:
    """All that the hash worker asks of an algorithm: begin with nothing, update, digest."""

    def __init__(self) -> None:
        self._value = 1

    def update(self, data: memoryview) -> None:
        """Take the next bytes; they are gone when this returns."""
        self._value = zlib.adler32(data, self._value)

    def digest(self) -> bytes:
        """Give the checksum of all bytes so far, as many bytes each time."""
        return self._value.to_bytes(4, "big")
