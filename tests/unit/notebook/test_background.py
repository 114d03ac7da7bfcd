"""The event loop behind plain functions."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from worker.notebook.background import Background
from worker.notebook.errors import NotebookError


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> Iterator[Background]:
    """Run one of the test's own, which ends with the test."""
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(threading, "_register_atexit", at_exit.append)
    yield Background()
    for end in at_exit:
        end()


async def test_it_works_where_a_loop_runs_already(background: Background) -> None:
    """As in Jupyter; and always in the same thread."""

    async def where() -> str:
        return threading.current_thread().name

    assert background.wait(where()) == background.wait(where()) == "notebook"


def test_an_error_of_ours_comes_without_its_way_through_the_loop(background: Background) -> None:
    """Its sentence says it all."""

    async def fail() -> None:
        raise NotebookError("This is why.")

    with pytest.raises(NotebookError, match=r"This is why\.") as raised:
        background.wait(fail())

    assert [entry.name for entry in raised.traceback][-1] == "wait"
    assert raised.value.__suppress_context__


def test_who_is_interrupted_leaves_nothing_running(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What he waited for is cancelled."""
    is_begun, is_cancelled = threading.Event(), threading.Event()

    async def stay() -> None:
        is_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()

    coming = background.start(stay())
    assert is_begun.wait(timeout=10)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(coming, "result", interrupted)
    monkeypatch.setattr(background, "start", lambda _: coming)
    with pytest.raises(KeyboardInterrupt):
        background.wait(None)  # type: ignore[arg-type]  # what was started before

    assert is_cancelled.wait(timeout=10)


def test_after_a_fork_the_parents_is_refused_and_a_new_one_works(background: Background) -> None:
    """The new one has the parent's duties at its end, for what it opens itself."""

    async def answer() -> int:
        return 42

    done: list[str] = []
    background.before_the_end(lambda: done.append("a last word"))
    background.wait(answer())
    own = background.leave_to_parent()

    with pytest.raises(NotebookError, match=r"forked: make its Request there, or start it by spawn\."):
        background.wait(answer())
    background._end()
    before = list(done)
    answered = own.wait(answer())
    own._end()

    assert (before, answered, done) == ([], 42, ["a last word"])
    background._is_parents = False  # there was no fork


def test_at_the_end_things_are_done_first_and_closed_then(background: Background) -> None:
    """The last that was opened is closed first."""
    done: list[str] = []

    class Resource:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> str:
            return self.name

        async def __aexit__(self, *_: object) -> None:
            done.append(self.name)

    background.before_the_end(lambda: done.append("a last word"))
    opened = [background.open(Resource(name)) for name in ("one", "two")]
    background._end()

    assert (opened, done) == (["one", "two"], ["a last word", "two", "one"])
