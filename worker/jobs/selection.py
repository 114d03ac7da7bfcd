"""Which of the files that a payload means are hashed: by `trigger.regex`, `include` and `exclude`.

- `trigger.regex` is searched in the full path, with its leading slash, as `PathRegex` reads it.
- `include` and `exclude` are globs, with the signs of `fnmatch`: `*`, `?`, `[ab]`, `[!ab]`. Upper and lower
  case differ. One with a slash in it is matched against the whole path, whose leading slash may be left out,
  and its `*` goes across slashes: `scans/*.tif` means `/scans/a.tif` and `/scans/1/b.tif`. One without a
  slash is matched against the file's name, wherever it lies.
- Without `include` every file is included. `exclude` wins.
"""

import re
from collections.abc import Iterable
from fnmatch import translate

from worker.jobs.errors import SelectionError
from worker.libsafe.models import FileRecord
from worker.libsafe.patterns import PathRegex
from worker.libsafe.payload import Payload


class Selection:
    """Chooses among the files that a payload means.

    Args:
        trigger_regex: Searched in each file's full path.
        include: Globs; none includes every file.
        exclude: Globs.

    Raises:
        ValueError: The regular expression is none.
    """

    def __init__(
        self, trigger_regex: str = "", *, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> None:
        included = tuple(include)
        self._regex = PathRegex(trigger_regex)
        self._include = _Globs(included or ("*",))
        self._exclude = _Globs(exclude)

    @classmethod
    def of(cls, payload: Payload) -> "Selection":
        """Give the selection that a payload asks for."""
        return cls(payload.function_data.trigger.regex, include=payload.include, exclude=payload.exclude)

    def code_against(self, record: FileRecord) -> str | None:
        """Tell why a file is passed over, the first reason that there is.

        Returns:
            `deleted`, `trigger_regex`, `not_included` or `excluded`; None: it is hashed.

        Raises:
            SelectionError: The regular expression takes too long over its path.
        """
        if record.deleted:
            return "deleted"
        if not self._regex_is_in(record):
            return "trigger_regex"
        if not self._include.match(record):
            return "not_included"
        if self._exclude.match(record):
            return "excluded"
        return None

    def _regex_is_in(self, record: FileRecord) -> bool:
        try:
            return self._regex.is_in(record.fullpath)
        except TimeoutError:
            raise SelectionError(
                f"the search for trigger.regex in the path of file {record.id} ({record.fullpath}) found no"
                " end; make it simpler, without repeats inside of repeats."
            ) from None


class _Globs:
    """Some globs; without any, none matches."""

    def __init__(self, globs: Iterable[str]) -> None:
        whole_paths, names = [], []
        for glob in globs:
            if "/" in glob:
                whole_paths.append(glob.removeprefix("/"))
            else:
                names.append(glob)
        self._whole_paths = _any_of(whole_paths)
        self._names = _any_of(names)

    def match(self, record: FileRecord) -> bool:
        by_path, by_name = self._whole_paths, self._names
        return bool((by_path and by_path.match(record.path)) or (by_name and by_name.match(record.filename)))


def _any_of(globs: list[str]) -> re.Pattern[str] | None:
    # fnmatch's expressions never go back over what a star has taken (since Python 3.9), so that no glob takes
    # time without end, and they are made to be joined.
    return re.compile("|".join(map(translate, globs))) if globs else None
