"""Names of files that a list may get wrong."""

import os
from collections.abc import Sequence

from hypothesis import strategies as st

ODD_NAMES = [
    b"plain",
    b"-leading dash",
    b" leading and trailing space ",
    b"*leading asterisk",
    b"#leading hash",
    b"\\leading backslash",
    b"back\\slash",
    b"backslash n: \\n",
    b"new\nline",
    b"\n",
    b"carriage return\r",
    b"tab\t",
    b"not UTF-8: \xff\xfe",
    "ünï 日本 😀".encode(),
    b"a) = b",
    b"MD5 (x) = 900150983cd24fb0d6963f7d28e17f72",
    b"900150983cd24fb0d6963f7d28e17f72  x",
    b"100%25",
    b"s3:",
]

_PIECES = ["\\", "\n", "n", " ", "*", "(", ")", " = ", "#", "%0A", "a"]


def file_names() -> st.SearchStrategy[bytes]:
    """Give names that a file may have, the odd characters among them often."""
    anything = st.lists(st.integers(1, 255).filter(lambda byte: byte != ord("/")), min_size=1, max_size=12)
    return _file_names(anything.map(bytes), [*_PIECES, "\r", "\udcff"])


def file_names_of_b3sum() -> st.SearchStrategy[bytes]:
    """Give names that every b3sum can list: in UTF-8, with no carriage return, as older ones refuse it."""
    characters = st.characters(codec="utf-8", exclude_characters="\0/\r\ufffd")
    return _file_names(st.text(characters, min_size=1, max_size=12).map(str.encode), _PIECES)


def _file_names(anything: st.SearchStrategy[bytes], pieces: Sequence[str]) -> st.SearchStrategy[bytes]:
    odd = st.lists(st.sampled_from(pieces), min_size=1, max_size=8).map("".join).map(os.fsencode)
    return (anything | odd).filter(lambda name: name not in {b".", b"..", b"-"})
