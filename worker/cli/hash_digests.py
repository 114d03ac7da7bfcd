"""`hash` without `--check`: digests as lines or JSON on standard output, or as lists in a folder."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from worker.cli.hash_view import HashView, JsonArray
from worker.cli.standard_streams import OutputError, output_to
from worker.cli.terminal import leave, run_to_end
from worker.hashing.algorithms import Algorithm
from worker.settings import Settings
from worker.targets.finding import FileIdentity, find_targets
from worker.targets.hashing import hash_targets, sizes_of
from worker.targets.lines import write_line
from worker.targets.sources import Sources
from worker.targets.target import S3, Hashed
from worker.targets.writing import ListFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputForm:
    """How digests are written.

    Args:
        as_json: One JSON array, not lines.
        is_tagged: `MD5 (<name>) = <hex>`, not `<hex>  <name>`.
        ends_by_zero: Lines end by a zero byte, not by a newline.
        folder: Where lists go, instead of lines on standard output.
    """

    as_json: bool
    is_tagged: bool
    ends_by_zero: bool
    folder: Path | None


class _Output(Protocol):
    """Where digests go."""

    own_files: Collection[FileIdentity]
    """What it writes itself, and so must not be hashed."""

    def put(self, hashed: Hashed) -> None:
        """Take what came of one target."""

    def finish(self) -> None:
        """Be told that this was all."""


def local_folder(text: str) -> Path:
    """Give the folder that `--output-dir` names; leave if it can be none of this machine."""
    if not text or text.startswith(S3):
        leave(f"--output-dir is for a folder of this machine; {text!r} is none.")
    return Path(text)


def hash_all(
    settings: Settings,
    names: Sequence[str],
    algorithms: Sequence[Algorithm],
    view: HashView,
    form: OutputForm,
    *,
    is_recursive: bool,
) -> bool:
    """Hash all targets and write their digests.

    Returns:
        Whether every target has its digests.

    Raises:
        OutputError: Something could not be written.
    """

    async def hash_each(output: _Output) -> bool:
        is_right = True
        async with Sources(settings, view.count_bytes) as sources:
            find = partial(
                find_targets,
                names,
                algorithms,
                sources,
                is_recursive=is_recursive,
                own_files=output.own_files,
            )
            async with (
                view.bar(sizes_of(find(), sources)),
                aclosing(hash_targets(find(on_left_out=view.say), sources)) as results,
            ):
                async for hashed in results:
                    view.count_target()
                    if hashed.error:
                        is_right = False
                        view.say(hashed.error)
                    output.put(hashed)
        output.finish()
        return is_right

    if form.folder is None:
        return run_to_end(hash_each(_Json(view) if form.as_json else _Lines(algorithms, form, view)))
    with _lists(algorithms, form, form.folder, view) as lists:
        when_stopped = "Stopped; no list was written, and nothing is left running."
        return run_to_end(hash_each(lists), when_stopped=when_stopped)


class _Json:
    """A JSON array with an object for each target, also for one without digests."""

    own_files: Collection[FileIdentity] = ()

    def __init__(self, view: HashView) -> None:
        self._array = JsonArray(view)

    def put(self, hashed: Hashed) -> None:
        self._array.add(hashed.as_json())

    def finish(self) -> None:
        self._array.end()


class _Lines:
    """Lines on standard output."""

    own_files: Collection[FileIdentity] = ()

    def __init__(self, algorithms: Sequence[Algorithm], form: OutputForm, view: HashView) -> None:
        self._view = view
        # With several algorithms nothing else would tell which digest is whose.
        is_tagged = form.is_tagged or len(algorithms) > 1
        self._lines = partial(_lines_of, algorithms, form, is_tagged=is_tagged)

    def put(self, hashed: Hashed) -> None:
        for _, line in self._lines(hashed):
            self._view.print(line)

    def finish(self) -> None:
        pass


class _Lists:
    """Lists in a folder, and their paths on standard output once they are there."""

    def __init__(
        self, files: ListFiles, algorithms: Sequence[Algorithm], form: OutputForm, view: HashView
    ) -> None:
        self.own_files: Collection[FileIdentity] = files.identities()
        self._files = files
        self._view = view
        self._lines = partial(_lines_of, algorithms, form, is_tagged=form.is_tagged)

    def put(self, hashed: Hashed) -> None:
        with _writing_to(self._files.folder):
            for algorithm, line in self._lines(hashed):
                self._files.write(algorithm, line)

    def finish(self) -> None:
        with _writing_to(self._files.folder):
            self._files.finish()
        for path in self._files.paths:
            self._view.print(bytes(path) + b"\n")


def _writing_to(folder: Path) -> AbstractContextManager[None]:
    return output_to(f"A list in {folder}")


@contextmanager
def _lists(
    algorithms: Sequence[Algorithm], form: OutputForm, folder: Path, view: HashView
) -> Iterator[_Lists]:
    files = ListFiles(folder, algorithms)
    try:
        with _writing_to(folder):
            files.open()
    except OutputError as error:
        leave(str(error))
    try:
        yield _Lists(files, algorithms, form, view)
    finally:
        files.close()


def _lines_of(
    algorithms: Sequence[Algorithm], form: OutputForm, hashed: Hashed, *, is_tagged: bool
) -> Iterator[tuple[Algorithm, bytes]]:
    end = b"\0" if form.ends_by_zero else b"\n"
    for algorithm in algorithms if hashed.digests else ():
        digest = hashed.digests[algorithm.name]
        yield algorithm, write_line(algorithm, digest, hashed.target.name, is_tagged=is_tagged, end=end)
