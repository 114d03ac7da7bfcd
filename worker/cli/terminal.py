"""What all commands share: how they read, print and leave."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console

from worker import settings

if TYPE_CHECKING:
    from worker.hashing.algorithms import Algorithm

FAILED = 1
"""Exit status: done, but not all is as it should be."""
UNUSABLE = 2
"""Exit status: what was asked can't be begun."""
INTERRUPTED = 130
"""Exit status: stopped by Ctrl-C, as shells tell it."""

ResultT = TypeVar("ResultT")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Algorithms = Annotated[
    str,
    typer.Option(
        "--algorithms", metavar="NAME,...", help="With commas; `hash-worker algorithms` lists them."
    ),
]

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def leave(reason: str, status: int = UNUSABLE) -> NoReturn:
    """Say why on standard error, and end with this status."""
    say_wrong(reason)
    raise typer.Exit(status)


def say_wrong(what: str) -> None:
    """Print a sentence on standard error."""
    err.print(f"hash-worker: {what}", markup=False, highlight=False)


def load_settings() -> settings.Settings:
    """Load the settings; leave if they are wrong."""
    try:
        return settings.load()
    except settings.SettingsError as error:
        leave(str(error))


def read(path: Path) -> bytes:
    """Read a file, or standard input for `-`; leave if it can't be read."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        leave(f"{path} can't be read: {error.strerror}.")


def payload_of(text: bytes) -> Any:
    """Parse a payload; leave if it is none."""
    from worker.libsafe.errors import PayloadError
    from worker.libsafe.payload import Payload

    try:
        return Payload.parse(text)
    except PayloadError as error:
        leave(str(error))


def algorithm_names(text: str) -> tuple[str, ...]:
    """Split `--algorithms`; leave if one is unknown, or if there are only commas. Nothing gives nothing."""
    names = text.replace(",", " ").split()
    if text and not names:
        leave("--algorithms names no algorithm; `hash-worker algorithms` lists them.")
    return tuple(algorithm.name for algorithm in resolved(names)) if names else ()


def resolved(names: Sequence[str], where: str = "") -> "tuple[Algorithm, ...]":
    """Find the algorithms; leave if one is unknown, and say where its name stands."""
    from worker.hashing.errors import HashingError
    from worker.hashing.registry import resolve

    try:
        return resolve(names)
    except HashingError as error:
        leave(f"{where}{error}")


def run_to_end(
    work: Coroutine[Any, Any, ResultT],
    *,
    when_stopped: str = "Stopped; nothing is left running.",
    stopped_status: int = INTERRUPTED,
) -> ResultT:
    """Run to the end; Ctrl-C, SIGTERM and SIGHUP cancel the work, and what it has open is closed first.

    Args:
        work: What is to be done.
        when_stopped: What is said when it was stopped.
        stopped_status: The exit status then.
    """
    from worker.hashing.errors import HashingError
    from worker.local.errors import LocalError

    async def stoppable() -> ResultT:
        running = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A shell has what it starts in the background ignore Ctrl-C, and nohup a terminal's end.
            if signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, _cancel_once, running)
        return await running

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        leave(when_stopped, stopped_status)
    except (LocalError, HashingError) as error:
        leave(str(error), FAILED)


def _cancel_once(running: asyncio.Task[Any]) -> None:
    # A second Ctrl-C must not cut short what closes the rest.
    if not running.cancelling():
        running.cancel()
