"""Checks lists: each file is read once, whatever number of lines, algorithms and lists names it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from worker.targets.lines import Entry
from worker.targets.reading import DigestList
from worker.targets.target import Hashed, Target

if TYPE_CHECKING:
    from worker.hashing.algorithms import Algorithm

_Place = tuple[str, str]
"""The folder that a name is relative to, and the name."""


class Outcome(StrEnum):
    """What became of one line, in coreutils' words."""

    OK = "OK"
    FAILED = "FAILED"
    UNREADABLE = "FAILED open or read"


class Checked(NamedTuple):
    """One line of a list, and what became of it.

    Attributes:
        digest_list: where it stands.
        entry: what it says.
        outcome: of comparing it with what there is.
        error: a sentence: why its target could not be read.
        is_missing: it could not because nothing is there by its name.
    """

    digest_list: DigestList
    entry: Entry
    outcome: Outcome
    error: str
    is_missing: bool


def targets_of(lists: Sequence[DigestList]) -> dict[_Place, Target]:
    """Give what the lists name, each once with all its algorithms, in the order of their first lines."""
    algorithms: dict[_Place, dict[str, Algorithm]] = {}
    for digest_list in lists:
        for entry in digest_list.entries:
            algorithms.setdefault((digest_list.folder, entry.name), {})[entry.algorithm.name] = (
                entry.algorithm
            )
    return {
        (folder, name): Target.of(name, [*rows.values()], folder)
        for (folder, name), rows in algorithms.items()
    }


class Checker:
    """Checks lines one by one, in the order of lists and lines.

    Args:
        targets: What the lists name, as `targets_of` gives it.
        hashed: What came of these targets, in their order.
    """

    def __init__(self, targets: Iterable[_Place], hashed: AsyncIterator[Hashed]) -> None:
        self._places = iter(targets)
        self._hashed = hashed
        self._answers: dict[_Place, Hashed] = {}

    async def check(self, digest_list: DigestList, entry: Entry) -> Checked:
        """Compare a line with what there is, once that is hashed."""
        place = (digest_list.folder, entry.name)
        while place not in self._answers:
            self._answers[next(self._places)] = await anext(self._hashed)
        hashed = self._answers[place]
        if hashed.error:
            return Checked(digest_list, entry, Outcome.UNREADABLE, hashed.error, hashed.is_missing)
        is_right = hashed.digests[entry.algorithm.name] == entry.digest
        return Checked(digest_list, entry, Outcome.OK if is_right else Outcome.FAILED, "", is_missing=False)


async def each(targets: Iterable[Target]) -> AsyncIterator[Target]:
    """Give targets that are known already as those that are found."""
    for target in targets:
        yield target
