"""Standard output and standard error, whatever stands behind them.

What standard error does not take nobody hears, and it stops nothing: a full disk behind it must not cost a
digest. What standard output does not take is not done: an OutputError, which `main` tells.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class OutputError(Exception):
    """A sentence: what can't be written, and why; empty where nobody is left to read."""


@contextmanager
def output_to(where: str) -> Iterator[None]:
    """Turn what goes wrong in writing to a place into an OutputError."""
    try:
        yield
    except BrokenPipeError:
        raise OutputError("") from None
    except OSError as error:
        raise OutputError(f"{where} can't be written: {error.strerror or type(error).__name__}.") from error


def prepare_streams() -> None:
    """Put our own in the place of both, as far as they are open; they can print any character.

    To be called before anything is opened: where standard error is closed, the next file would get its
    descriptor, and with it what libraries and child processes write there.
    """
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = _text(_StandardError(2, "w", closefd=False), sys.stderr)
    if sys.stdout is not None:
        sys.stdout = _text(_StandardOutput(1, "w", closefd=False), sys.stdout)


def drop_output() -> None:
    """Drop what standard output still holds back: it would fail once more at the very end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _StandardError(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


class _StandardOutput(io.FileIO):
    def write(self, data: Any, /) -> int:
        with output_to("Standard output"):
            return super().write(data)


def _text(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    """Make a stream of text with the encoding of the one before it."""
    encoding = before.encoding if before else "utf-8"
    # A name's bytes that are no text stay as they are where Python wants it so: in the C locale.
    errors = before.errors if before and before.errors != "strict" else "backslashreplace"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
