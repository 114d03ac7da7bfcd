"""The patterns by which a payload chooses among files: a regular expression on the path, and globs."""

import re

import regex  # type: ignore[import-untyped]  # it comes without types

# No path of an S3 object is longer in bytes (Amazon S3 User Guide, "Naming Amazon S3 objects").
MAX_PATTERN_CHARACTERS = 1024
MAX_GLOBS = 100
_SEARCH_SECONDS = 0.5
# The compiler writes repeats out: (((a{9}){9}){9}){9}… of 40 characters took all the memory there was, and so
# many 20 MB at most.
_MAX_WRITTEN_OUT_CHARACTERS = 100_000
# A group that calls itself before it has taken a character fills gigabytes within the half second.
_CALL = re.compile(r"\(\?\s*(?:R|[+-]?\d|&|P\s*[&>])")
_COUNT = re.compile(r"([\w\].]?)\{\s*(\d+)")


class PathRegex:
    """A regular expression that is searched in paths; an empty one is found in all.

    The vendor has published neither the dialect of `trigger.regex` nor whether it has to match a whole path.
    It is read as the `regex` package reads it (Python's own and more), and found anywhere in the path.

    Raises:
        ValueError: It can't be compiled, or not in reasonable memory. The text never quotes it.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise ValueError(f"is longer than {MAX_PATTERN_CHARACTERS} characters")
        if _most_characters_written_out(pattern) > _MAX_WRITTEN_OUT_CHARACTERS:
            raise ValueError("repeats too much; use smaller numbers in its braces")
        if _CALL.search(pattern):
            raise ValueError("calls a group; write it out")
        try:
            self._pattern = regex.compile(pattern)
        except regex.error as error:
            where = "" if error.pos is None else f"; look at its character {error.pos + 1}"
            raise ValueError(f"is no regular expression{where}") from None
        except Exception:  # noqa: BLE001 - nested too deep, flags that exclude one another, a bug of the library
            raise ValueError("is no regular expression that can be used") from None

    def is_in(self, path: str) -> bool:
        """Tell whether it is found in a path.

        Raises:
            TimeoutError: Half a second did not suffice. It may be one that takes time without end.
        """
        return self._pattern.search(path, timeout=_SEARCH_SECONDS) is not None


def globs(value: object) -> tuple[str, ...]:
    """Take globs, each once: a list of texts, or one text with a glob on each line.

    Lines and not commas part them, for a name may have commas in it. Blanks at both ends of a line and empty
    lines do not count; a list is taken as it is. None and an empty text are no globs.

    Raises:
        ValueError: It is neither, or too much. The text never quotes it.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = [line.strip() for line in value.split("\n") if line.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(glob, str) and glob for glob in value):
        raise ValueError("must be a list of globs, or one text with a glob on each line")
    if len(value) > MAX_GLOBS:
        raise ValueError(f"has more than {MAX_GLOBS} globs")
    if any(len(glob) > MAX_PATTERN_CHARACTERS for glob in value):
        raise ValueError(f"has a glob of more than {MAX_PATTERN_CHARACTERS} characters")
    return tuple(dict.fromkeys(value))


def _most_characters_written_out(pattern: str) -> int:
    """Give a bound that is never too low: groups may stand in one another, single characters can't.

    A count that follows a character or a set repeats only that. Any other may repeat a group, and that group
    may hold all the others.
    """
    characters, repeats = len(pattern), 1
    for single, count in _COUNT.findall(pattern):
        if single:
            characters += int(count)
        else:
            repeats *= max(int(count), 1)
    return characters * repeats
