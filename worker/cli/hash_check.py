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
from worker.targets.checking import Checked, Checker, Outcome, each, targets_of
from worker.targets.hashing import hash_targets, sizes_of
from worker.targets.lines import escape
from worker.targets.reading import DigestList, read_list
from worker.targets.sources import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRules:
    """What is told, and what counts as right; as coreutils' options.

    Args:
        as_json: One JSON array with an object for each line and, after its lines, for each list.
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
    lists = _read_lists(paths, algorithms)
    targets = targets_of(lists)

    async def check_each() -> bool:
        array = JsonArray(view)
        are_right = True
        async with Sources(settings, view.count_bytes) as sources:
            sizes = sizes_of(each(targets.values()), sources)
            found = hash_targets(each(targets.values()), sources)
            async with view.bar(sizes), aclosing(found) as hashed:
                checker = Checker(targets, hashed)
                for digest_list in lists:
                    report = _Report(digest_list, rules, view, array)
                    for entry in digest_list.entries:
                        report.take(await checker.check(digest_list, entry))
                    are_right &= report.conclude()
        if rules.as_json:
            array.end()
        return are_right

    return run_to_end(check_each())


def _read_lists(paths: Sequence[str], algorithms: Sequence[Algorithm]) -> list[DigestList]:
    try:
        return [read_list(path, algorithms) for path in paths]
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
        self._may_be_b3sums = False

    def take(self, checked: Checked) -> None:
        """Tell what became of a line."""
        self._view.count_target()
        if checked.is_missing and self._rules.ignores_missing:
            return
        self._counts[checked.outcome] += 1
        if checked.outcome is Outcome.FAILED and checked.entry.is_guess:
            self._may_be_b3sums |= checked.entry.algorithm.name == "sha256"
        if checked.error:
            self._view.say(checked.error)
        if self._rules.as_json:
            self._array.add(_as_json(checked))
        elif not self._rules.is_silent and not (self._rules.is_quiet and checked.outcome is Outcome.OK):
            self._view.print(_as_listed(checked.entry.name) + f": {checked.outcome}\n".encode())

    def conclude(self) -> bool:
        """Tell of the list as a whole; give whether it is right."""
        if self._rules.tells_lines:
            self._tell_improper_lines()
        is_right = self._is_right()
        error = self._list.error
        if not error and not self._list.entries and not is_right:
            error = f"{self._list.name}: no properly formatted checksum lines found"
        if error:
            self._view.say(error)
        elif not self._rules.is_silent:
            self._warn()
        if self._list.unknown_tag and not self._rules.is_silent:
            tag = self._list.unknown_tag
            self._view.say(f"{self._list.name}: No algorithm here has the tag {tag}.")
        if self._rules.as_json:
            self._array.add(
                {
                    "list": self._list.name,
                    "is_right": is_right,
                    "improper_lines": self._list.improper_lines,
                    "error": error or None,
                }
            )
        return is_right

    def _is_right(self) -> bool:
        digest_list, counts = self._list, self._counts
        if digest_list.error or counts[Outcome.FAILED] or counts[Outcome.UNREADABLE]:
            return False
        # RFC 8493: every line of a manifest is a file of the bag, and a bag without files has none.
        if digest_list.improper_lines and (self._rules.is_strict or digest_list.is_manifest):
            return False
        return counts[Outcome.OK] > 0 or (digest_list.is_manifest and not digest_list.entries)

    def _tell_improper_lines(self) -> None:
        kind = f"{self._list.label} " if self._list.label else ""
        for number in self._list.improper_lines:
            self._view.say(f"{self._list.name}: {number}: improperly formatted {kind}checksum line")

    def _warn(self) -> None:
        counts, name = self._counts, self._list.name
        if improper := len(self._list.improper_lines):
            self._view.say(f"WARNING: {_count(improper, 'line is', 'lines are')} improperly formatted")
        if unreadable := counts[Outcome.UNREADABLE]:
            self._view.say(f"WARNING: {_count(unreadable, 'listed file', 'listed files')} could not be read")
        if wrong := counts[Outcome.FAILED]:
            computed = _count(wrong, "computed checksum", "computed checksums")
            self._view.say(f"WARNING: {computed} did NOT match")
        if self._may_be_b3sums:
            self._view.say(
                f"{name}: Its digests were taken for SHA256; if b3sum made it, add --algorithms blake3."
            )
        if self._rules.ignores_missing and self._list.entries and not counts[Outcome.OK]:
            self._view.say(f"{name}: no file was verified")


def _as_listed(name: str) -> bytes:
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
