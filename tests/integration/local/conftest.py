"""A look at the child processes of the tests' own process."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def children() -> Iterator[Callable[[], set[int]]]:
    """Give the ids of the living processes that the test has started; none may be left at its end."""
    before = _children(os.getpid())

    def started() -> set[int]:
        return _children(os.getpid()) - before

    yield started
    assert not started()


def _children(parent: int) -> set[int]:
    """Read /proc, whose `stat` has state and parent behind the name in parentheses; Z is dead already."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, its_parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(its_parent) == parent and state != "Z":
            found.add(int(stat.parent.name))
    return found
