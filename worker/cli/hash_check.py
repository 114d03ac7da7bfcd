"""`hash --check`: lists against what there is, told in the words of coreutils."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from worker.cli.hash_view import HashView, JsonArray
from worker.cli.terminal import INTERRUPTED, leave, run_to_end
from worker.hashing.algorithms import Algorithm
from worker.hashing.errors import BadAlgorithmError
from worker.settings import Settings
from worker.targets.checking import Checked, Outcome, check_lists, each, targets_of
from worker.targets.hashing import sizes_of
from worker.targets.lines import escape
from worker.targets.lists import DigestList, read_list
from worker.targets.sources import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRules:
    """What is told, and what counts as right; as coreutils' options.

    Args:
        as_json: One JSON array with an object for each line, not the lines.
        is_quiet: No line for what is OK.
        is_silent: No lines and no warnings at all.
        is_strict: An improperly formatted line makes its list wrong.
        tells_lines: Each such line is told.
        ignores_missing: Lines about files that are not there are left out.
    """

    as_json: bool
    is_quiet: bool
    is_silent: bool
    is_strict: bool
    tells_lines: bool
    ignores_missing: bool


def check_all(
    settings: Settings,
    paths: Sequence[str],
    algorithms: Sequence[Algorithm],
    view: HashView,
    rules: CheckRules,
) -> bool:
    """Check all lists, and tell what is wrong.

    Args:
        settings: For lanes, slots and S3.
        paths: Of the lists; `-` is standard input.
        algorithms: What untagged lines may be of; none: their lists' names or their length tell.
        view: Where it is told.
        rules: What is told, and what counts as right.

    Returns:
        Whether each list is right.

    Raises:
        OutputError: Standard output can't be written.
    """
    lists = _read_lists(paths, algorithms, view, rules)
    targets = targets_of(lists)

    async def check_each() -> bool:
        array = JsonArray(view)
        are_right = True
        async with Sources(settings, view.count_bytes) as sources:
            sizes = sizes_of(each(targets.values()), sources)
            async with view.bar(sizes), aclosing(check_lists(lists, targets, sources)) as results:
                for digest_list in lists:
                    report = _Report(digest_list, rules, view, array)
                    for _ in digest_list.entries:
                        report.take(await anext(results))
                    are_right &= report.conclude()
        if rules.as_json:
            array.end()
        return are_right

    return run_to_end(check_each())


def _read_lists(
    paths: Sequence[str], algorithms: Sequence[Algorithm], view: HashView, rules: CheckRules
) -> list[DigestList]:
    def tell_line(sentence: str) -> None:
        if rules.tells_lines:
            view.say(sentence)

    try:
        return [read_list(path, algorithms, tell_line) for path in paths]
    except BadAlgorithmError as error:
        leave(str(error))
    except KeyboardInterrupt:
        leave("Stopped; nothing was checked.", INTERRUPTED)


class _Report:
    """Tells of one list, line by line, and at its end."""

    def __init__(self, digest_list: DigestList, rules: CheckRules, view: HashView, array: JsonArray) -> None:
        self._list = digest_list
        self._rules = rules
        self._view = view
        self._array = array
        self._counts: Counter[Outcome] = Counter()

    def take(self, checked: Checked) -> None:
        """Tell what became of a line."""
        self._view.count_target()
        if checked.is_missing and self._rules.ignores_missing:
            return
        self._counts[checked.outcome] += 1
        if checked.error:
            self._view.say(checked.error)
        if self._rules.as_json:
            self._array.add(_as_json(checked))
        elif not self._rules.is_silent and not (self._rules.is_quiet and checked.outcome is Outcome.OK):
            self._view.print(_shown(checked.entry.name) + f": {checked.outcome}\n".encode())

    def conclude(self) -> bool:
        """Tell of the list as a whole; give whether it is right."""
        if self._list.error:
            self._view.say(self._list.error)
            return False
        if not self._list.entries:
            self._view.say(f"{self._list.name}: no properly formatted checksum lines found")
            return False
        if not self._rules.is_silent:
            self._warn()
        return (
            self._counts[Outcome.OK] > 0
            and not self._counts[Outcome.FAILED]
            and not self._counts[Outcome.UNREADABLE]
            and not (self._rules.is_strict and self._list.improper_lines)
        )

    def _warn(self) -> None:
        improper, counts = self._list.improper_lines, self._counts
        if improper:
            self._view.say(f"WARNING: {_count(improper, 'line is', 'lines are')} improperly formatted")
        if unreadable := counts[Outcome.UNREADABLE]:
            self._view.say(f"WARNING: {_count(unreadable, 'listed file', 'listed files')} could not be read")
        if wrong := counts[Outcome.FAILED]:
            computed = _count(wrong, "computed checksum", "computed checksums")
            self._view.say(f"WARNING: {computed} did NOT match")
        if self._rules.ignores_missing and not counts[Outcome.OK]:
            self._view.say(f"{self._list.name}: no file was verified")


def _shown(name: str) -> bytes:
    """Give a name as it stands before its outcome: escaped as in a list, as coreutils 9.4 to 9.10 have it.

    From 8.25 to 9.3 only a name with a newline was: one that begins with a backslash looked like an escaped
    one, and a carriage return could hide an outcome on a terminal. 9.4 mends that as a bug.
    """
    return b"".join(escape(os.fsencode(name)))


def _as_json(checked: Checked) -> dict[str, str | None]:
    return {
        "list": checked.digest_list.name,
        "target": checked.entry.name,
        "algorithm": checked.entry.algorithm.name,
        "hash": checked.entry.digest.hex(),
        "result": str(checked.outcome),
        "error": checked.error or None,
    }


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
