"""What is refused of an added algorithm before any object is read, each in one sentence."""

import hashlib
import sys
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from worker.hashing import definitions
from worker.hashing.algorithms import Algorithm
from worker.hashing.custom import make_algorithm
from worker.hashing.errors import BadAlgorithmError


class _Sum:
    def __init__(self) -> None:
        self.value = 0

    def update(self, data: memoryview) -> None:
        self.value = zlib.crc32(data, self.value)

    def digest(self) -> Any:
        return self.value.to_bytes(4, "big")


def _sum_with(digest: Callable[[_Sum], object], **more: object) -> type[_Sum]:
    return type("Sum", (_Sum,), {"digest": digest, **more})


def _refusal(name: str, new: Any, **declared: Any) -> str:
    with pytest.raises(BadAlgorithmError) as caught:
        make_algorithm(name, new, **declared)
    assert (caught.value.name, caught.value.code) == (name, "bad_algorithm")
    assert str(caught.value) == f"The hash algorithm {name!r} can't be used: {caught.value.reason}"
    return caught.value.reason


@pytest.mark.parametrize("name", ["a", "0", "sha3-384", "x_y.z", "a" * 32])
def test_a_name_may_be_1_to_32_plain_characters(name: str) -> None:
    """It becomes a label, a platform's name of a hash, and the name of a file."""
    assert make_algorithm(name, hashlib.sha1).name == name


@pytest.mark.parametrize("name", ["", "a" * 33, "SHA1", "sha 1", "ä", "..", "-x", "_x", "a/b", "a\n", "a\0"])
def test_any_other_name_is_refused(name: str) -> None:
    """The sentence tells the rule."""
    reason = "a name is 1 to 32 of a-z, 0-9, hyphen, underscore and dot, the first a letter or digit."

    assert _refusal(name, hashlib.sha1) == reason


@pytest.mark.parametrize("name", ["md5", "sha3-512"])
def test_our_own_names_are_refused(name: str) -> None:
    """The digest that everybody calls md5 is MD5."""
    assert _refusal(name, hashlib.sha1) == "it is built in; choose another name."


@pytest.mark.parametrize("label", ["", "x" * 33, "two\nlines", "\x1b[31m"])
def test_a_label_that_would_break_a_message_is_refused(label: str) -> None:
    """It is printed and sent as it is."""
    assert _refusal("x", hashlib.sha1, label=label) == "its label must be 1 to 32 characters in one line."


@pytest.mark.parametrize("seconds_per_gb", [0, -1])
def test_a_speed_that_cannot_be_is_refused(seconds_per_gb: float) -> None:
    """The lanes' work is shared out by it."""
    reason = f"it can't take {seconds_per_gb} seconds per GB; leave that out."

    assert _refusal("x", hashlib.sha1, seconds_per_gb=seconds_per_gb) == reason


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (None, "None makes no hashers; give a class, or a function like hashlib.sha1."),
        (zlib.crc32, "it failed when it was tried (TypeError: crc32 expected at least 1 argument, got 0)."),
        (object, "it failed when it was tried (AttributeError: 'object' object has no attribute 'digest')."),
        (
            _sum_with(lambda hasher: hasher.value),
            "it failed when it was tried (TypeError: digest() gave int instead of bytes).",
        ),
        (
            _sum_with(lambda hasher: bytearray(4)),
            "it failed when it was tried (TypeError: digest() gave bytearray instead of bytes).",
        ),
        (
            _sum_with(lambda hasher: bytes(5 if hasher.value else 4)),
            "it failed when it was tried (ValueError: digest() gave 5 bytes instead of 4).",
        ),
        (_sum_with(lambda hasher: b""), "its digest has 0 bytes; it must have 1 to 128."),
        (_sum_with(lambda hasher: bytes(129)), "its digest has 129 bytes; it must have 1 to 128."),
        (
            _sum_with(lambda hasher: bytes(4), digest_size=8),
            "its digest has 4 bytes, and its digest_size says 8.",
        ),
        (
            _sum_with(lambda hasher: bytes(4), update=lambda hasher, data: 1 // 0),
            "it failed when it was tried (ZeroDivisionError: integer division or modulo by zero).",
        ),
        (
            _sum_with(lambda hasher: bytes(4), __init__=lambda hasher: sys.exit()),
            "it failed when it was tried (SystemExit).",
        ),
    ],
)
def test_what_fails_at_the_first_try_is_refused(new: Any, told: str) -> None:
    """A few bytes show it, before any object is read."""
    assert _refusal("x", new) == told


@pytest.mark.parametrize("digest_bits", [31, 33, 64])
def test_another_width_than_the_declared_one_is_refused(digest_bits: int) -> None:
    """Either the class is wrong or the declaration, and only its author knows."""
    reason = f"its digest has 32 bits, and {digest_bits} were declared."

    assert _refusal("x", _Sum, digest_bits=digest_bits) == reason


@pytest.mark.parametrize("digest_bytes", [1, 128])
def test_the_widest_and_the_narrowest_digest_are_taken(digest_bytes: int) -> None:
    """From a parity byte to 128 bytes."""
    assert _digest_of_size(digest_bytes).digest_bytes == digest_bytes


def _digest_of_size(digest_bytes: int) -> Algorithm:
    return make_algorithm("x", _sum_with(lambda hasher: bytes(digest_bytes)))


def test_what_cannot_be_packed_is_refused() -> None:
    """A lane is another process, and a lock belongs to this one."""
    lock = threading.Lock()

    def digest(hasher: _Sum) -> bytes:
        with lock:
            return bytes(4)

    reason = _refusal("x", _sum_with(digest))

    assert reason.startswith("it can't be sent to the hashing lanes (TypeError: cannot pickle '_thread.lock'")
    assert reason.endswith("; put it in a module of its own and import it from there.")


def test_what_drags_much_data_along_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell may refer to a data set without meaning to send it."""
    data_set = bytes(5000)

    def digest(hasher: _Sum) -> bytes:
        return data_set[:4]

    new = _sum_with(digest)
    monkeypatch.setattr(definitions, "MOST_BYTES", 100_000)
    make_algorithm("x", new)
    monkeypatch.setattr(definitions, "MOST_BYTES", 5000)

    assert "bytes, and 5000 is the most that goes to a hashing lane" in _refusal("x", new)
