"""An algorithm that somebody adds: tried, measured, and made into a row like ours."""

import re
import sys
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction

from worker.hashing.added_code import contained, ended_children
from worker.hashing.algorithms import ALGORITHMS, Algorithm, Hasher
from worker.hashing.definitions import pack, shorten
from worker.hashing.errors import BadAlgorithmError
from worker.hashing.speed import measure_seconds_per_gb
from worker.hashing.trial import trial_digests

# A name becomes a message's label, a platform's name of a hash and the name of a file.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_MOST_DIGEST_BYTES = 128
_MOST_LABEL_LENGTH = 32
# The figure only orders the work of lanes, so a rough one will do.
_MEASURE_SECONDS = 0.002
_FAILED = "it failed when it was tried"


class CheckedHasher:
    """A hasher that somebody added: it may neither change nor keep its bytes, and its digest has one length.

    Args:
        new: makes the hasher within.
        digest_bytes: the length of its digest.
    """

    def __init__(self, new: Callable[[], Hasher], digest_bytes: int) -> None:
        with ended_children():
            self._hasher = new()
        self._digest_bytes = digest_bytes

    def update(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises:
            BufferError: the hasher keeps them, and others will be in their place.
        """
        view = data.toreadonly()  # other hashers read the same bytes
        with ended_children():
            self._hasher.update(view)
        try:
            view.release()
        except BufferError as error:
            raise BufferError("update() keeps its bytes, which change as soon as it has returned") from error

    def digest(self) -> bytes:
        """Give the digest of all bytes so far.

        Raises:
            ValueError: it is none, or not as long as it should be.
        """
        with ended_children():
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
        nothing = _digest_of_nothing(new, digest_bits)
        checked = partial(CheckedHasher, new, len(nothing))
        definition = pack(checked, _checked_digests(checked, nothing))
        with contained(_FAILED):
            measured_seconds_per_gb = measure_seconds_per_gb(checked, _MEASURE_SECONDS)
    except ValueError as error:
        raise BadAlgorithmError(name, str(error)) from error
    return Algorithm(
        name,
        label or name.upper(),
        8 * len(nothing),
        checked,
        seconds_per_gb or measured_seconds_per_gb,
        definition=definition,
    )


def _check_arguments(name: object, new: object, label: object, seconds_per_gb: object) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(
            "a name is 1 to 32 of a-z, 0-9, hyphen, underscore and dot, the first a letter or digit."
        )
    if name in ALGORITHMS:
        raise ValueError("it is built in; choose another name.")
    if label is not None and not _is_label(label):
        raise ValueError(f"its label must be 1 to {_MOST_LABEL_LENGTH} characters in one line.")
    if seconds_per_gb is not None and not _is_duration(seconds_per_gb):
        raise ValueError(f"it can't take {shorten(repr(seconds_per_gb))} seconds per GB; leave that out.")
    if not callable(new):
        what = f"{shorten(repr(new))} makes no hashers; give a class, or a function like hashlib.sha1."
        raise ValueError(what)  # noqa: TRY004 -- all these are told in the same way


def _is_label(label: object) -> bool:
    return isinstance(label, str) and 0 < len(label) <= _MOST_LABEL_LENGTH and label.isprintable()


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and 0 < seconds <= sys.float_info.max


def _digest_of_nothing(new: Callable[[], Hasher], digest_bits: object) -> bytes:
    """Make the first hasher, and make sure that its digest has a length that it may have."""
    with contained(_FAILED):
        hasher = new()
        if any(map(iscoroutinefunction, (hasher.digest, hasher.update))):
            raise TypeError("a lane awaits neither update() nor digest()")
        nothing, digest_size = _digest_of(hasher), getattr(hasher, "digest_size", None)
    digest_bytes = len(nothing)
    if not 0 < digest_bytes <= _MOST_DIGEST_BYTES:
        raise ValueError(f"its digest has {digest_bytes} bytes; it must have 1 to {_MOST_DIGEST_BYTES}.")
    if digest_bits is not None and digest_bits != 8 * digest_bytes:
        declared = shorten(repr(digest_bits))
        raise ValueError(f"its digest has {8 * digest_bytes} bits, and {declared} were declared.")
    if isinstance(digest_size, int) and digest_size != digest_bytes:
        raise ValueError(f"its digest has {digest_bytes} bytes, and its digest_size says {digest_size}.")
    return nothing


def _checked_digests(new: Callable[[], Hasher], nothing: bytes) -> list[bytes]:
    """Give the digests of the trial, and make sure that they are of the bytes and of nothing else."""
    with contained(_FAILED):
        first, again = trial_digests(new), trial_digests(new)
    empty, whole, cut, short = first
    if not (empty == nothing and whole == cut and first == again):
        raise ValueError(
            "the same bytes gave different digests; they may depend neither on how the bytes are cut, nor on "
            "other hashers, nor on bytes that are kept after update()."
        )
    # A narrow digest may well be the same once.
    if nothing == whole == short:
        raise ValueError("its digest is the same whatever the bytes are.")
    return first


def _digest_of(hasher: Hasher) -> bytes:
    digest: object = hasher.digest()
    if not isinstance(digest, bytes):
        raise TypeError(f"digest() gave {type(digest).__name__} instead of bytes")
    return digest
