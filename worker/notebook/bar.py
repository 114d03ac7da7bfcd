"""A progress bar: below the cell in Jupyter, on standard error on a terminal, nowhere else."""

from importlib import import_module
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Bar:
    """How many bytes of how many files are hashed; a context manager.

    Bytes may be counted in any thread. On a terminal it draws itself; in Jupyter `refresh` does.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._in_jupyter = console.is_jupyter
        # In Jupyter rich would need ipywidgets; IPython itself can show a thing and change it.
        self._draws_itself = console.is_terminal and not self._in_jupyter
        self._progress = Progress(
            TextColumn("Hashing"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[done_files]} of {task.fields[files]} files"),
            console=console,
            transient=True,
            auto_refresh=self._draws_itself,
            disable=not (self._draws_itself or self._in_jupyter),
        )
        self._task = self._progress.add_task("", total=None, done_files=0, files=0)
        self._shown: Any = None
        self._moving_bytes = 0
        self._done_bytes = 0
        self._done_files = 0

    def __repr__(self) -> str:
        return f"<Bar {self._done_files} files done, {self._done_bytes} bytes>"

    def __enter__(self) -> Self:
        if self._draws_itself:
            self._progress.start()
        if self._in_jupyter:
            ipython: Any = import_module("IPython.display")  # there where this is Jupyter
            self._shown = ipython.display(self._progress, display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refresh()
        if self._draws_itself:
            self._progress.stop()

    def set_total(self, files: int, size_bytes: int) -> None:
        """Tell how much there is to do."""
        self._progress.update(self._task, total=size_bytes, files=files)

    def add(self, size_bytes: int) -> None:
        """Count bytes of a file that is under way; less than none, when the file is done."""
        self._moving_bytes += size_bytes
        self._update()

    def add_done(self, size_bytes: int) -> None:
        """Count a file that is done, however it ended."""
        self._done_bytes += size_bytes
        self._done_files += 1
        self._update()

    def refresh(self) -> None:
        """Draw it anew where it does not do so itself."""
        if self._shown is not None:
            self._shown.update(self._progress)

    def _update(self) -> None:
        completed = self._done_bytes + self._moving_bytes
        self._progress.update(self._task, completed=completed, done_files=self._done_files)
