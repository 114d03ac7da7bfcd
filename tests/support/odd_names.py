"""Names of files that a list may get wrong."""

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

_PIECES = st.sampled_from(
    [b"\\", b"\n", b"\r", b"n", b" ", b"*", b"(", b")", b" = ", b"#", b"%0A", b"\xff", b"a"]
)


def file_names() -> st.SearchStrategy[bytes]:
    """Give names that a file may have, the odd characters among them often."""
    anything = st.binary(min_size=1, max_size=12)
    odd = st.lists(_PIECES, min_size=1, max_size=8).map(b"".join)
    return (anything | odd).filter(_may_be_a_file)


def _may_be_a_file(name: bytes) -> bool:
    return not set(name) & set(b"\0/") and name not in {b".", b"..", b"-"}
