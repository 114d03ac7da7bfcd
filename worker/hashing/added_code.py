"""Running code that somebody added: what it prints and raises is told as its own, and its children end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from worker.hashing.definitions import one_line


@contextmanager
def contained(fault: str) -> Iterator[None]:
    """Run added code in a program of ours; what it prints goes to standard error.

    Args:
        fault: a clause: what it means if that code raises anything.

    Raises:
        ValueError: the fault and what was raised, also if that means to end the program.
        KeyboardInterrupt: somebody has pressed Ctrl-C meanwhile.
    """
    with _noted_interrupts() as interrupts, redirect_stdout(sys.stderr), ended_children():
        try:
            yield
        except BaseException as error:
            if interrupts and isinstance(error, KeyboardInterrupt):
                raise
            raise ValueError(f"{fault} ({one_line(error)}).") from error


@contextmanager
def ended_children() -> Iterator[None]:
    """End a child of this process that added code has forked and that comes out of it.

    It would go on as if it were this process: answer its orders, print its results.
    """
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            os._exit(0)


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Collect the signals that Python makes a KeyboardInterrupt of; added code may raise one by itself."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
