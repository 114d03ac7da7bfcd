"""Checks lists: each file is read once, whatever number of lines, algorithms and lists names it."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from worker.targets.hashing import hash_targets
from worker.targets.lines import Entry
from worker.targets.lists import DigestList
from worker.targets.sources import Sources
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


async def check_lists(
    lists: Sequence[DigestList], targets: dict[_Place, Target], sources: Sources
) -> AsyncGenerator[Checked]:
    """Check what the lists say, in the order of lists and lines.

    To be used within `contextlib.aclosing`.

    Args:
        lists: As they were read; some 1 KB of memory for each line.
        targets: What they name, as `targets_of` gives it.
        sources: How to read it.

    Raises:
        NoLanesError: There can be no lanes.
    """
    answers: dict[_Place, Hashed] = {}
    places = iter(targets)
    async with aclosing(hash_targets(each(targets.values()), sources)) as hashed:
        for digest_list in lists:
            for entry in digest_list.entries:
                place = (digest_list.folder, entry.name)
                while place not in answers:
                    answers[next(places)] = await anext(hashed)
                yield _checked(digest_list, entry, answers[place])


def _checked(digest_list: DigestList, entry: Entry, hashed: Hashed) -> Checked:
    if hashed.error:
        return Checked(digest_list, entry, Outcome.UNREADABLE, hashed.error, hashed.is_missing)
    is_right = hashed.digests[entry.algorithm.name] == entry.digest
    return Checked(digest_list, entry, Outcome.OK if is_right else Outcome.FAILED, "", is_missing=False)


async def each(targets: Iterable[Target]) -> AsyncIterator[Target]:
    """Give targets that are known already as those that are found."""
    for target in targets:
        yield target
