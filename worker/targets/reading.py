"""Lists to be checked: which algorithm their digests are of, and what they say."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, AnyStr

from worker.hashing.algorithms import ALGORITHMS, Algorithm
from worker.hashing.registry import added_names, resolve
from worker.targets.lines import (
    AmbiguousDigestError,
    Entry,
    ImproperLineError,
    LineReader,
    read_manifest_line,
)
from worker.targets.target import STANDARD_INPUT, check_standard_input, reason_of, shown

# What programs that write lists are called, and so people's lists.
_SHORT_NAMES = {"b2": "blake2b", "b3": "blake3"}
# Where neither tag, option nor name tells: what coreutils makes.
_USUAL = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b")
_MANIFEST = re.compile(r"(?:tag)?manifest-([a-z0-9]+)\.txt")
# A path of 4096 bytes, all escaped, and the longest digest are far shorter.
_LONGEST_LINE_BYTES = 64 * 1024


@dataclass(slots=True)
class DigestList:
    """A list as it was read.

    Attributes:
        name: of the list, for people.
        folder: what its names are relative to; nothing means the current folder.
        label: the algorithm of its untagged lines, if it is known beforehand.
        is_manifest: a BagIt manifest, which may say nothing and has no improper lines.
        entries: what its lines say, in their order.
        improper_lines: the numbers of those that are none of a list; empty lines and comments are no fault.
        unknown_tag: the first tag that no algorithm here has.
        error: a sentence: why it can't be checked.
    """

    name: str
    folder: str = ""
    label: str = ""
    is_manifest: bool = False
    entries: list[Entry] = field(default_factory=list)
    improper_lines: list[int] = field(default_factory=list)
    unknown_tag: str = ""
    error: str = ""


def read_list(path: str, algorithms: Sequence[Algorithm]) -> DigestList:
    """Read a list that coreutils, b3sum, BSD's programs, BagIt or we have made; some 0.4 KB for each line.

    A tag says what a line's digest is of. Else it is that one of `algorithms` whose digests have its length;
    where none is given, the list's name tells (SHA256SUMS, photos.md5), and where that does not, the length
    among coreutils' algorithms. A BagIt manifest, `manifest-<algorithm>.txt`, is known by its name.

    Args:
        path: Of the list; `-` is standard input.
        algorithms: What its digests may be of, where its user says so.

    Raises:
        BadAlgorithmError: A line wants an added algorithm that can't be used.
    """
    digest_list = DigestList("'standard input'" if path == STANDARD_INPUT else shown(path))
    try:
        _read_lines(path, algorithms, digest_list)
    except OSError as error:
        digest_list.error = reason_of(path, error)
    except AmbiguousDigestError as error:
        digest_list.error = f"{digest_list.name}: {error}"
    if digest_list.error:
        digest_list.entries.clear()  # what is right of a part would be taken for the whole
    return digest_list


def _read_lines(path: str, algorithms: Sequence[Algorithm], digest_list: DigestList) -> None:
    read_line = _line_reader(path, algorithms, digest_list)
    for number, line in enumerate(_lines(path, is_manifest=digest_list.is_manifest), start=1):
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if not text or text.startswith(b"#"):
            continue
        try:
            entry = read_line(text)
            if path == STANDARD_INPUT == entry.name:
                raise ImproperLineError  # noqa: TRY301 - it is read already, nobody can check it
            digest_list.entries.append(entry)
        except ImproperLineError as error:
            digest_list.improper_lines.append(number)
            digest_list.unknown_tag = digest_list.unknown_tag or error.tag


def algorithm_in_name(name: str) -> Algorithm | None:
    """Find the one algorithm that a list's name has as a word, with or without `sum` or `sums` behind it.

    None if it has none, or several.
    """
    known = _by_plain_name()
    words = "|".join(sorted(map(_with_hyphens, known), key=len, reverse=True))
    found = re.findall(rf"(?<![a-z0-9])({words})(?:sums?)?(?![a-z0-9])", name.lower())
    names = {known[_plain(word)] for word in found}
    return resolve(names)[0] if len(names) == 1 else None


def _line_reader(
    path: str, algorithms: Sequence[Algorithm], digest_list: DigestList
) -> Callable[[bytes], Entry]:
    """Choose how the lines are read, and note in the list what is known beforehand."""
    base = Path(path).name
    in_name = algorithm_in_name(base)
    if in_name and _MANIFEST.fullmatch(base):
        digest_list.is_manifest = True
        digest_list.folder = str(Path(path).parent)
        digest_list.label = in_name.label
        return lambda line: read_manifest_line(line, in_name)
    told = algorithms or ([in_name] if in_name else ())
    candidates = told or resolve(_USUAL)
    if len(candidates) == 1:
        digest_list.label = candidates[0].label
    return LineReader(candidates, is_guess=not told).read


def _lines(path: str, *, is_manifest: bool) -> Iterator[bytes]:
    if path == STANDARD_INPUT:
        check_standard_input()
        yield from _lines_of(sys.stdin.buffer)
    elif is_manifest:
        # RFC 8493 has lines end by LF, CR or both, as text has here; Latin-1 takes every byte.
        with Path(path).open(encoding="latin-1") as text:
            yield from (line.encode("latin-1") for line in _lines_of(text))
    else:
        with Path(path).open("rb") as file:
            yield from _lines_of(file)


def _lines_of(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """Read line by line; of one that has no end, as a disk's image has none, come the first bytes alone."""
    while line := file.readline(_LONGEST_LINE_BYTES):
        yield line
        while len(line) == _LONGEST_LINE_BYTES and line[-1:] not in (b"\n", "\n"):
            line = file.readline(_LONGEST_LINE_BYTES)


@cache
def _by_plain_name() -> dict[str, str]:
    """Give all algorithms by their names without hyphens: so BagIt writes them, and some people.

    Of two names that differ in hyphens alone ours counts; one of other characters only is nobody's word.
    """
    names = [*added_names(), *ALGORITHMS]
    return {**{plain: name for name in names if (plain := _plain(name))}, **_SHORT_NAMES}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


def _with_hyphens(plain: str) -> str:
    return "-?".join(plain)
