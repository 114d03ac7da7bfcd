"""`hash-worker hash` on a terminal: a bar while it lasts, and nothing of it in what is printed."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from worker.hashing.reference import hash_bytes

# Some seconds of hashing in Python's own SHA-3, on any machine.
SLOW = ["--algorithms", "sha3-512,sha3-256"]
SIZE_BYTES = 400_000_000


class Terminal:
    """A program whose standard error is a terminal, and its standard output too unless it is a pipe."""

    def __init__(self, arguments: list[str], folder: Path, *, pipe: bool) -> None:
        self._end, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        stdout = subprocess.PIPE if pipe else end
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "worker", "hash", *arguments]
        self.process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=end, env=environment)
        os.close(end)
        self.shown = ""

    def read_until(self, pattern: str) -> bool:
        """Read what is shown until something like this is; False if the program ended before it."""
        while not re.search(pattern, self.shown):
            piece = b""
            with suppress(OSError):  # nobody has the other end open any more
                piece = os.read(self._end, 65536)
            if not piece:
                return False
            self.shown += piece.decode(errors="replace")
        return True

    def close(self) -> None:
        """End the program, if it has not ended."""
        self.process.kill()
        self.process.communicate()
        os.close(self._end)


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Run `hash-worker hash …` on a terminal, in a folder with a small and a large file."""
    (tmp_path / "small").write_bytes(b"abc")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", SIZE_BYTES)
    opened: list[Terminal] = []

    def start(*arguments: str, pipe: bool = False) -> Terminal:
        opened.append(Terminal([*arguments], tmp_path, pipe=pipe))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def test_a_bar_shows_bytes_speed_and_time_left(show: Callable[..., Terminal]) -> None:
    """And is gone at the end; the lines are whole."""
    terminal = show(*SLOW, "small", "large", "small")

    assert terminal.read_until(r"1 done .*/400\.0 MB [0-9.]+ MB/s 0:0")
    assert not terminal.read_until("never")
    assert terminal.process.wait() == 0
    lines = re.findall(r"SHA3-512 \(small\) = ([0-9a-f]+)\r\n", terminal.shown)
    assert lines == [hash_bytes(b"abc", ["sha3-512"])["sha3-512"].hex()] * 2


def test_in_a_pipe_are_the_lines_alone_also_where_the_bar_is_shown(show: Callable[..., Terminal]) -> None:
    """The bar is on standard error."""
    terminal = show("--algorithms", "sha3-512", "large", pipe=True)

    assert terminal.read_until("MB/s")
    assert terminal.process.stdout is not None
    assert re.fullmatch(rb"[0-9a-f]{128}  large\n", terminal.process.stdout.read())


@pytest.mark.parametrize("option", ["--quiet", "--check --status"])
def test_who_wants_silence_gets_no_bar(show: Callable[..., Terminal], tmp_path: Path, option: str) -> None:
    """Nothing at all is on the terminal."""
    (tmp_path / "list.txt").write_text(f"SHA3-512 (large) = {'0' * 128}\n")
    target = "list.txt" if "--check" in option else "large"

    terminal = show(*option.split(), "--algorithms", "sha3-512", target, pipe=True)

    assert not terminal.read_until("never")
    assert terminal.shown == ""


def test_ctrl_c_takes_the_bar_away_and_keeps_what_was_printed(show: Callable[..., Terminal]) -> None:
    """One sentence, exit status 130, and the cursor is there again."""
    terminal = show(*SLOW, "small", "large")
    assert terminal.read_until("MB/s")

    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("never")

    assert terminal.process.wait() == 130
    assert "SHA3-256 (small) = " in terminal.shown
    assert terminal.shown.endswith("hash-worker: Stopped; nothing is left running.\r\n")
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") > 0


def test_what_is_done_at_once_shows_no_bar(show: Callable[..., Terminal]) -> None:
    """A small file's line, and nothing else."""
    terminal = show("--algorithms", "md5", "small")

    assert not terminal.read_until("never")
    assert terminal.shown == "900150983cd24fb0d6963f7d28e17f72  small\r\n"
