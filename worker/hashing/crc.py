"""CRCs as hashers: their whole state is one number, so it may live in any few bytes."""

from typing import Protocol


class _Checksum(Protocol):
    """A function of awscrt: the CRC of `data` that goes on from `previous`."""

    def __call__(self, data: memoryview, previous: int, /) -> int: ...


class CrcHasher:
    """A CRC that keeps its value in `state`, big-endian, which is also its digest.

    Args:
        name: the name of the function in `awscrt.checksums`.
        state: exactly as many writable bytes as the CRC has; all zero for a new one.
    """

    def __init__(self, name: str, state: memoryview) -> None:
        from awscrt import checksums  # noqa: PLC0415 -- 60 ms, which only those pay who want a CRC

        self._checksum: _Checksum = getattr(checksums, name)
        self._state = state

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        value = self._checksum(data, int.from_bytes(self._state, "big"))
        self._state[:] = value.to_bytes(len(self._state), "big")

    def digest(self) -> bytes:
        """Give the CRC of all bytes so far, big-endian."""
        return bytes(self._state)
