"""What is refused of an added algorithm before any object is read, each in one sentence."""

import hashlib
import math
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any, ClassVar

import pytest

from worker.hashing import definitions
from worker.hashing.algorithms import Algorithm
from worker.hashing.custom import make_algorithm
from worker.hashing.definitions import one_line, shorten
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


def _interrupt(hasher: _Sum) -> bytes:
    raise KeyboardInterrupt


def _change(hasher: _Sum, data: memoryview) -> None:
    data[0] ^= 0xFF


async def _update_later(hasher: _Sum, data: memoryview) -> None:
    """Do nothing before somebody awaits it."""


def _refusal(name: Any, new: Any, **declared: Any) -> str:
    with pytest.raises(BadAlgorithmError) as caught:
        make_algorithm(name, new, **declared)
    assert (caught.value.name, caught.value.code) == (name, "bad_algorithm")
    assert str(caught.value) == f"The hash algorithm {name!r} can't be used: {caught.value.reason}"
    return caught.value.reason


@pytest.mark.parametrize("name", ["a", "0", "sha3-384", "x_y.z", "a" * 32])
def test_a_name_may_be_1_to_32_plain_characters(name: str) -> None:
    """It becomes a label, a platform's name of a hash, and the name of a file."""
    assert make_algorithm(name, hashlib.sha1).name == name


@pytest.mark.parametrize(
    "name", [5, None, ["a"], "", "a" * 33, "SHA1", "sha 1", "ä", "..", "-x", "_x", "a/b", "a\n", "a\0"]
)
def test_any_other_name_is_refused(name: Any) -> None:
    """The sentence tells the rule."""
    reason = "a name is 1 to 32 of a-z, 0-9, hyphen, underscore and dot, the first a letter or digit."

    assert _refusal(name, hashlib.sha1) == reason


@pytest.mark.parametrize("name", ["md5", "sha3-512"])
def test_our_own_names_are_refused(name: str) -> None:
    """The digest that everybody calls md5 is MD5."""
    assert _refusal(name, hashlib.sha1) == "it is built in; choose another name."


@pytest.mark.parametrize("label", [5, "", "x" * 33, "two\nlines", "\x1b[31m"])
def test_a_label_that_would_break_a_message_is_refused(label: Any) -> None:
    """It is printed and sent as it is."""
    assert _refusal("x", hashlib.sha1, label=label) == "its label must be 1 to 32 characters in one line."


@pytest.mark.parametrize("seconds_per_gb", [0, -1, math.nan, math.inf, 10**309, "1"])
def test_a_speed_that_cannot_be_is_refused(seconds_per_gb: Any) -> None:
    """The lanes' work is shared out by it."""
    reason = f"it can't take {shorten(repr(seconds_per_gb))} seconds per GB; leave that out."

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
        (
            _sum_with(_interrupt),
            "it failed when it was tried (KeyboardInterrupt).",
        ),
        (
            _sum_with(_Sum.digest, update=_change),
            "it failed when it was tried (TypeError: cannot modify read-only memory).",
        ),
        (
            _sum_with(_Sum.digest, update=lambda hasher, data: setattr(hasher, "kept", PickleBuffer(data))),
            (
                "it failed when it was tried "
                "(BufferError: update() keeps its bytes, which change as soon as it has returned)."
            ),
        ),
        (
            _sum_with(_Sum.digest, update=_update_later),
            "it failed when it was tried (TypeError: a lane awaits neither update() nor digest()).",
        ),
    ],
)
def test_what_fails_at_the_first_try_is_refused(new: Any, told: str) -> None:
    """A few bytes show it, before any object is read."""
    assert _refusal("x", new) == told


class _Keeping(_Sum):
    """Keeps slices of its bytes, which is no use of their memory that shows when it is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[memoryview] = []

    def update(self, data: memoryview) -> None:
        self.pieces.append(data[:])

    def digest(self) -> bytes:
        return hashlib.sha256(b"".join(self.pieces)).digest()


class _Shared(_Sum):
    """Has one sum for all of its hashers."""

    sums: ClassVar = {"all": 0}

    def update(self, data: memoryview) -> None:
        self.sums["all"] = zlib.crc32(data, self.sums["all"])

    def digest(self) -> bytes:
        return self.sums["all"].to_bytes(4, "big")


class _SharedAndBegunAnew(_Shared):
    """Is right as long as there is one hasher at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sums["all"] = 0


class _ByPiece(_Sum):
    """Hashes each piece by itself."""

    def update(self, data: memoryview) -> None:
        self.value ^= zlib.crc32(data)


_ONE = _Sum()
_ONE_OF_HASHLIB = hashlib.sha256()


@pytest.mark.parametrize(
    "new", [_Keeping, _Shared, _SharedAndBegunAnew, _ByPiece, lambda: _ONE, lambda: _ONE_OF_HASHLIB]
)
def test_a_hasher_whose_digest_is_of_more_than_its_bytes_is_refused(new: Any) -> None:
    """Lanes cut objects anywhere, use slots again, and have several hashers at once."""
    assert _refusal("x", new) == (
        "the same bytes gave different digests; they may depend neither on how the bytes are cut, nor on "
        "other hashers, nor on bytes that are kept after update()."
    )


@pytest.mark.parametrize("update", [lambda hasher, data: None, lambda hasher, data: _Sum()])
def test_a_hasher_that_does_not_take_its_bytes_is_refused(update: Any) -> None:
    """It does nothing, or gives another hasher instead of going on."""
    assert _refusal("x", _sum_with(_Sum.digest, update=update)) == (
        "its digest is the same whatever the bytes are."
    )


def test_a_narrow_digest_may_be_that_of_nothing_by_chance() -> None:
    """One of eight bits is so for one content of 256."""

    def update(hasher: _Sum, data: memoryview) -> None:
        hasher.value = (hasher.value + len(data)) % 5  # the longer content has 251 x 5 bytes

    new = _sum_with(lambda hasher: bytes([hasher.value]), update=update)

    assert make_algorithm("x", new).digest_bits == 8


_FORKING_PROGRAM = """
import os, zlib
from worker.hashing.registry import register_algorithm

class Forking:
    def __init__(self): self.value = 0
    def update(self, data):
        self.value = zlib.crc32(data, self.value)
        if child := os.fork(): os.waitpid(child, 0)
    def digest(self): return self.value.to_bytes(4, "big")

register_algorithm("forking", Forking, seconds_per_gb=1)
print("done")
"""


def test_a_child_that_a_hasher_forks_does_not_go_on_as_our_program() -> None:
    """It would do all that follows once more."""
    program = [sys.executable, "-c", _FORKING_PROGRAM]

    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_what_a_hasher_prints_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output has our results, which programs read."""

    def digest(hasher: _Sum) -> bytes:
        sys.stdout.write("working")
        return hasher.value.to_bytes(4, "big")

    make_algorithm("x", _sum_with(digest))

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "working" in printed.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        (" two\r\n\tlines ", "two lines"),
        ("\x1b[31mred\x07\udc80", "[31mred"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
    ],
)
def test_an_error_of_added_code_is_told_in_one_line(text: str, told: str) -> None:
    """However long it is, and whatever it would do to a terminal."""
    assert shorten(text) == told
    assert one_line(OSError(text)).startswith(f"OSError: {told}"[:199].strip().removesuffix(":"))
    assert len(one_line(OSError(text))) <= 200


class _UntellableError(Exception):
    def __init__(self, raised: type[BaseException]) -> None:
        self.raised = raised

    def __str__(self) -> str:
        raise self.raised


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, _UntellableError])
def test_an_error_that_has_no_text_is_told_by_its_type(raised: type[BaseException]) -> None:
    """Its __str__ is added code too; in a lane it would end the process."""

    def digest(hasher: _Sum) -> bytes:
        raise _UntellableError(raised)

    assert _refusal("x", _sum_with(digest)) == (
        "it failed when it was tried (_UntellableError, which can't be told as text)."
    )


@pytest.mark.parametrize("digest_bits", [31, 33, 64, "32"])
def test_another_width_than_the_declared_one_is_refused(digest_bits: Any) -> None:
    """Either the class is wrong or the declaration, and only its author knows."""
    reason = f"its digest has 32 bits, and {digest_bits!r} were declared."

    assert _refusal("x", _Sum, digest_bits=digest_bits) == reason


@pytest.mark.parametrize("digest_bytes", [1, 128])
def test_the_widest_and_the_narrowest_digest_are_taken(digest_bytes: int) -> None:
    """From a parity byte to 128 bytes."""
    assert _digest_of_size(digest_bytes).digest_bytes == digest_bytes


def _digest_of_size(digest_bytes: int) -> Algorithm:
    return make_algorithm("x", _sum_with(lambda hasher: (hasher.value % 251).to_bytes(digest_bytes, "big")))


def test_what_cannot_be_packed_is_refused() -> None:
    """A lane is another process, and a lock belongs to this one."""
    lock = threading.Lock()

    def digest(hasher: _Sum) -> bytes:
        with lock:
            return hasher.value.to_bytes(4, "big")

    reason = _refusal("x", _sum_with(digest))

    assert reason.startswith("it can't be sent to the hashing lanes (TypeError: cannot pickle '_thread.lock'")
    assert reason.endswith("; put it in a module of its own and import it from there.")


def test_what_drags_much_data_along_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell may refer to a data set without meaning to send it."""
    data_set = bytes(5000)

    def digest(hasher: _Sum) -> bytes:
        return hasher.value.to_bytes(4, "big") + data_set[:4]

    new = _sum_with(digest)
    monkeypatch.setattr(definitions, "MOST_BYTES", 100_000)
    make_algorithm("x", new)
    monkeypatch.setattr(definitions, "MOST_BYTES", 5000)

    assert "bytes, and 5000 is the most that goes to a hashing lane" in _refusal("x", new)
