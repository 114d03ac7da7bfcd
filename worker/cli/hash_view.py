"""What `hash` shows: lines on standard output, sentences on standard error, and on a terminal a bar."""

import asyncio
import errno
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer

from worker.cli.standard_streams import output_to
from worker.cli.terminal import err, say_wrong

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress

# What is done sooner needs no bar, nor the time to load it.
_FIRST_SECONDS = 0.5
_REFRESH_SECONDS = 0.1


class HashView:
    """Prints at once; on a terminal that shows the bar ten times a second, the bar being taken away for it.

    Args:
        has_bar: Whether there may be a bar at all.
    """

    def __init__(self, *, has_bar: bool) -> None:
        self._has_bar = has_bar and err.is_interactive
        self._read_bytes = 0
        self._targets = 0
        self._total_bytes: int | None = None
        self._waiting: list[bytes] = []
        self._progress: Progress | None = None
        self._live: Live | None = None

    def count_bytes(self, size_bytes: int) -> None:
        """Count bytes that were read."""
        self._read_bytes += size_bytes

    def count_target(self) -> None:
        """Count a target that is done with."""
        self._targets += 1

    def print(self, line: bytes) -> None:
        """Print bytes, line ends among them."""
        self._waiting.append(line)
        if self._live is None or sys.stdout is None or not sys.stdout.isatty():
            self._flush()

    def say(self, sentence: str) -> None:
        """Print a sentence on standard error, after all lines so far."""
        self._take_away()
        self._flush()
        say_wrong(sentence)

    @asynccontextmanager
    async def bar(self, sizes_bytes: AsyncIterator[int | None]) -> AsyncIterator[None]:
        """Show a bar while the block runs, if standard error is a terminal and it takes long enough.

        Args:
            sizes_bytes: Of all targets; one of unknown size is None. Asked only if the bar is shown.
        """
        if not self._has_bar:
            yield
            return
        drawing = asyncio.create_task(self._draw(sizes_bytes))
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.wait([drawing])
            self._take_away()
            self._flush()
            if not drawing.cancelled():
                drawing.result()

    async def _draw(self, sizes_bytes: AsyncIterator[int | None]) -> None:
        await asyncio.sleep(_FIRST_SECONDS)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._measure(sizes_bytes))
                while True:
                    if self._waiting:
                        self._take_away()
                        self._flush()
                    self._put_up()
                    await asyncio.sleep(_REFRESH_SECONDS)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _measure(self, sizes_bytes: AsyncIterator[int | None]) -> None:
        total_bytes = 0
        async for size_bytes in sizes_bytes:
            if size_bytes is None:
                return
            total_bytes += size_bytes
        self._total_bytes = total_bytes

    def _flush(self) -> None:
        lines = b"".join(self._waiting)
        self._waiting.clear()
        if lines:
            with output_to("Standard output"):
                if sys.stdout is None:  # it was closed before we began, and echo would print nowhere
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                typer.echo(lines, nl=False)

    def _put_up(self) -> None:
        from rich.live import Live

        if self._progress is None:
            self._progress = _new_progress()
        (task,) = self._progress.task_ids
        self._progress.update(
            task, total=self._total_bytes, completed=self._read_bytes, targets=self._targets
        )
        if self._live is None:
            # Standard output is never rich's: what is printed there are a list's bytes.
            self._live = Live(
                console=err,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=self._progress.get_renderable,
            )
            self._live.start()
        self._live.refresh()

    def _take_away(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _new_progress() -> "Progress":
    from rich import progress

    bar = progress.Progress(
        progress.TextColumn("{task.fields[targets]} done"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=err,
    )
    bar.add_task("", total=None, targets=0)
    return bar


class JsonArray:
    """One JSON array, printed as its items come.

    A name's bytes that are no UTF-8 become escapes of single surrogates: so it is JSON, and a program that
    writes names as Python does gets the very bytes back.
    """

    def __init__(self, view: HashView) -> None:
        self._view = view
        self._before = b"[\n"

    def add(self, item: object) -> None:
        """Print an item."""
        text = json.dumps(item, ensure_ascii=False).encode(errors="backslashreplace")
        self._view.print(self._before + text)
        self._before = b",\n"

    def end(self) -> None:
        """Print the array's end."""
        self._view.print(b"\n]\n" if self._before == b",\n" else b"[]\n")
