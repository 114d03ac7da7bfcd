"""An algorithm that somebody adds: tried, measured, and made into a row like ours."""

import re
from collections.abc import Callable
from functools import partial

from worker.hashing.algorithms import ALGORITHMS, Algorithm, Hasher
from worker.hashing.definitions import one_line, pack
from worker.hashing.errors import BadAlgorithmError
from worker.hashing.speed import measure_seconds_per_gb

# A name becomes a message's label, a platform's name of a hash and the name of a file.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_MOST_DIGEST_BYTES = 128
_MOST_LABEL_LENGTH = 32
# The figure only orders the work of lanes, so a rough one will do.
_MEASURE_SECONDS = 0.002


class CheckedHasher:
    """A hasher that somebody added; its digest is looked at before anyone relies on its length.

    Args:
        new: makes the hasher within.
        digest_bytes: the length of its digest.
    """

    def __init__(self, new: Callable[[], Hasher], digest_bytes: int) -> None:
        self._hasher = new()
        self._digest_bytes = digest_bytes

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        self._hasher.update(data)

    def digest(self) -> bytes:
        """Give the digest of all bytes so far.

        Raises:
            ValueError: it is none, or not as long as it should be.
        """
        digest = _digest_of(self._hasher)
        if len(digest) != self._digest_bytes:
            raise ValueError(f"digest() gave {len(digest)} bytes instead of {self._digest_bytes}")
        return digest


def make_algorithm(
    name: str,
    new: Callable[[], Hasher],
    *,
    digest_bits: int | None = None,
    label: str | None = None,
    seconds_per_gb: float | None = None,
) -> Algorithm:
    """Make a row of an added algorithm; see `worker.hashing.registry.register_algorithm`.

    Raises:
        BadAlgorithmError: the name can't be used, or a first try over a few bytes went wrong.
    """
    try:
        _check_arguments(name, new, label, seconds_per_gb)
        digest_bytes, measured_seconds_per_gb = _try_out(new, digest_bits)
        checked = partial(CheckedHasher, new, digest_bytes)
        definition = pack(checked)
    except ValueError as error:
        raise BadAlgorithmError(name, str(error)) from error
    return Algorithm(
        name,
        label or name.upper(),
        8 * digest_bytes,
        checked,
        seconds_per_gb or measured_seconds_per_gb,
        definition=definition,
    )


def _check_arguments(name: str, new: object, label: str | None, seconds_per_gb: float | None) -> None:
    if name in ALGORITHMS:
        raise ValueError("it is built in; choose another name.")
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a name is 1 to 32 of a-z, 0-9, hyphen, underscore and dot, the first a letter or digit."
        )
    if label is not None and not (0 < len(label) <= _MOST_LABEL_LENGTH and label.isprintable()):
        raise ValueError(f"its label must be 1 to {_MOST_LABEL_LENGTH} characters in one line.")
    if seconds_per_gb is not None and seconds_per_gb <= 0:
        raise ValueError(f"it can't take {seconds_per_gb} seconds per GB; leave that out.")
    if not callable(new):
        what = f"{new!r} makes no hashers; give a class, or a function like hashlib.sha1."
        raise ValueError(what)  # noqa: TRY004 -- all these are told in the same way


def _try_out(new: Callable[[], Hasher], digest_bits: int | None) -> tuple[int, float]:
    """Hash a few bytes as a lane would; give the digest's length in bytes and the seconds for 1e9 bytes."""
    try:
        hasher = new()
        digest_size = getattr(hasher, "digest_size", None)
        digest_bytes = len(_digest_of(hasher))
        _digest_after_some_bytes(new, digest_bytes)
        measured = measure_seconds_per_gb(new, _MEASURE_SECONDS)
    # A library may leave by sys.exit too, and must not take us along.
    except (Exception, SystemExit) as error:
        raise ValueError(f"it failed when it was tried ({one_line(error)}).") from error
    if not 0 < digest_bytes <= _MOST_DIGEST_BYTES:
        raise ValueError(f"its digest has {digest_bytes} bytes; it must have 1 to {_MOST_DIGEST_BYTES}.")
    if digest_bits is not None and digest_bits != 8 * digest_bytes:
        raise ValueError(f"its digest has {8 * digest_bytes} bits, and {digest_bits} were declared.")
    if isinstance(digest_size, int) and digest_size != digest_bytes:
        raise ValueError(f"its digest has {digest_bytes} bytes, and its digest_size says {digest_size}.")
    return digest_bytes, measured


def _digest_after_some_bytes(new: Callable[[], Hasher], digest_bytes: int) -> None:
    hasher = CheckedHasher(new, digest_bytes)
    hasher.update(memoryview(bytearray(b"abc")))
    hasher.digest()


def _digest_of(hasher: Hasher) -> bytes:
    digest: object = hasher.digest()
    if not isinstance(digest, bytes):
        raise TypeError(f"digest() gave {type(digest).__name__} instead of bytes")
    return digest
