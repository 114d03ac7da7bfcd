"""One line of a list: `<hex>  <name>` or `MD5 (<name>) = <hex>`, written and read as GNU coreutils 9 does.

Names are bytes to them, and so here, with `os.fsdecode` between. A name with a backslash, a newline or a
carriage return has these escaped, and its line begins with a backslash.
"""

import base64
import os
import re
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass

from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import UnknownAlgorithmError
from worker.hashing.registry import resolve

_ESCAPED = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_PLAIN = {escaped: plain for plain, escaped in _ESCAPED.items()}
_TO_ESCAPE = re.compile(rb"[\\\n\r]")
_TO_UNESCAPE = re.compile(rb"\\.?", re.DOTALL)

_UNTAGGED = re.compile(rb"[ \t]*(\\?)([0-9A-Fa-f]+)[ \t](.+)", re.DOTALL)
_TAGGED = re.compile(rb"[ \t]*(\\?)([0-9A-Za-z._-]+) ?\((.*)\)[ \t]*=[ \t]*([0-9A-Za-z+/=]+)", re.DOTALL)
_MANIFEST = re.compile(rb"([0-9A-Fa-f]+)[ \t]++\*?+(.+)", re.DOTALL)
# RFC 8493, section 2.1.3, lets writers encode only these.
_PERCENT = re.compile(rb"%(0[AaDd]|25)")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a line says: the digest that this name's bytes should have.

    Attributes:
        name: of what was hashed.
        algorithm: what made the digest.
        digest: as the line has it.
        is_guess: nothing but the digest's length told the algorithm.
    """

    name: str
    algorithm: Algorithm
    digest: bytes
    is_guess: bool = False


class ImproperLineError(ValueError):
    """The line is none of a list.

    Args:
        tag: That of a line which is none only because no algorithm here has it; else nothing.
    """

    def __init__(self, tag: str = "") -> None:
        super().__init__(tag)
        self.tag = tag


class AmbiguousDigestError(Exception):
    """Digests of several algorithms are as long as this one; the sentence says which, and what to do."""

    def __init__(self, digits: int, candidates: Sequence[Algorithm]) -> None:
        labels = " or ".join(algorithm.label for algorithm in candidates)
        super().__init__(f"A digest of {digits} digits may be one of {labels}; say which by --algorithms.")


def write_line(
    algorithm: Algorithm, digest: bytes, name: str, *, is_tagged: bool, end: bytes = b"\n"
) -> bytes:
    """Write one line.

    Args:
        algorithm: What made the digest.
        digest: Of what the name stands for.
        name: As given.
        is_tagged: `MD5 (<name>) = <hex>`, not `<hex>  <name>`.
        end: A newline; a zero byte, and names need no escaping.
    """
    mark, written = escape(os.fsencode(name)) if end == b"\n" else (b"", os.fsencode(name))
    digits = digest.hex().encode()
    if is_tagged:
        return mark + b"%b (%b) = %b" % (algorithm.label.encode(), written, digits) + end
    return mark + digits + b"  " + written + end


def escape(name: bytes) -> tuple[bytes, bytes]:
    """Give the mark that an escaped name needs before it, or nothing, and the name as it is written."""
    written = _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0]], name)
    return (b"\\" if written != name else b""), written


class LineReader:
    """Reads the lines of one list.

    Args:
        candidates: What an untagged line's digest may be of; its length chooses among them.
        is_guess: Nothing says that it is one of them.
    """

    def __init__(self, candidates: Sequence[Algorithm], *, is_guess: bool = False) -> None:
        self._candidates = candidates
        self._is_guess = is_guess
        self._is_reversed: bool | None = None

    def read(self, line: bytes) -> Entry:
        """Read a line without its end.

        Raises:
            ImproperLineError: It is none of a list.
            AmbiguousDigestError: Several candidates have digests of this length.
        """
        tagged = _TAGGED.fullmatch(line)
        if tagged and (algorithm := _tagged_algorithm(tagged[2].decode())):
            return Entry(_name(tagged[1], tagged[3]), algorithm, _tagged_digest(tagged[4], algorithm))
        untagged = _UNTAGGED.fullmatch(line)
        if not untagged:
            raise ImproperLineError(tagged[2].decode() if tagged else "")
        algorithm = algorithm_of_length(len(untagged[2]), self._candidates)
        name = _name(untagged[1], self._without_mode(untagged[3]))
        digest = bytes.fromhex(untagged[2].decode())
        return Entry(name, algorithm, digest, self._is_guess)

    def _without_mode(self, rest: bytes) -> bytes:
        """Take off the character before the name: a space, or an asterisk for binary.

        The output of BSD's `md5 -r` has none. A list is in one form or the other, so that nobody can hide a
        space at a name's beginning.
        """
        has_mode = len(rest) > 1 and rest[:1] in {b" ", b"*"}
        if not has_mode and self._is_reversed is False:
            raise ImproperLineError
        if self._is_reversed is None:
            self._is_reversed = not has_mode
        return rest if self._is_reversed else rest[1:]


def read_manifest_line(line: bytes, algorithm: Algorithm) -> Entry:
    """Read a line of a BagIt manifest (RFC 8493, section 2.1.3) without its end.

    Raises:
        ImproperLineError: It is none, or its path leaves the bag (section 5).
    """
    found = _MANIFEST.fullmatch(line)
    if not found or len(found[1]) != 2 * algorithm.digest_bytes:
        raise ImproperLineError
    path = _PERCENT.sub(lambda code: bytes.fromhex(code[1].decode()), found[2])
    if b"\0" in path or path.startswith(b"/") or b".." in path.split(b"/"):
        raise ImproperLineError
    return Entry(os.fsdecode(path), algorithm, bytes.fromhex(found[1].decode()))


def algorithm_of_length(digits: int, candidates: Sequence[Algorithm]) -> Algorithm:
    """Choose the algorithm whose digest has so many hexadecimal digits.

    Raises:
        ImproperLineError: None has.
        AmbiguousDigestError: Several have.
    """
    fitting = [algorithm for algorithm in candidates if 2 * algorithm.digest_bytes == digits]
    if not fitting:
        raise ImproperLineError
    if len(fitting) > 1:
        raise AmbiguousDigestError(digits, fitting)
    return fitting[0]


def _tagged_algorithm(label: str) -> Algorithm | None:
    try:
        (algorithm,) = resolve([label.lower()])
    except UnknownAlgorithmError:
        return None
    return algorithm if algorithm.label == label else None


def _tagged_digest(text: bytes, algorithm: Algorithm) -> bytes:
    """Read a digest in hexadecimal digits, or as `cksum --base64` writes it."""
    try:
        if len(text) == 2 * algorithm.digest_bytes:
            return bytes.fromhex(text.decode())
        digest = base64.b64decode(text, validate=True)
    except (ValueError, Base64Error):
        raise ImproperLineError from None
    if len(digest) != algorithm.digest_bytes:
        raise ImproperLineError
    return digest


def _name(mark: bytes, written: bytes) -> str:
    name = _TO_UNESCAPE.sub(_unescaped, written) if mark else written
    if b"\0" in name:
        raise ImproperLineError
    return os.fsdecode(name)


def _unescaped(found: re.Match[bytes]) -> bytes:
    try:
        return _PLAIN[found[0]]
    except KeyError:
        raise ImproperLineError from None
