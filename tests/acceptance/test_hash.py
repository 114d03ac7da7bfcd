"""`hash-worker hash`: digests of local files and standard input, judged by coreutils; and how it ends."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.toy_queue import until

CONTENT = bytes(range(251)) * 1000


@pytest.fixture
def small_slots() -> dict[str, str]:
    """Give settings under which CONTENT fills the ring nearly twice."""
    return dict(os.environ) | {"HASH_WORKER_HASHING__SLOTS": "2", "HASH_WORKER_HASHING__SLOT_BYTES": "65536"}


@pytest.mark.parametrize("size_bytes", [0, 1, 65535, 65536, 65537, 2 * 65536, 2 * 65536 + 1, len(CONTENT)])
def test_one_algorithm_gives_the_line_that_coreutils_gives(
    tmp_path: Path, small_slots: dict[str, str], size_bytes: int
) -> None:
    """From a pipe and as a file; every size around slots and their ring is right."""
    (tmp_path / "file.bin").write_bytes(CONTENT[:size_bytes])
    theirs = subprocess.check_output(["sha256sum", "file.bin", "-"], cwd=tmp_path, input=CONTENT[:size_bytes])

    ours = subprocess.check_output(
        [sys.executable, "-m", "worker", "hash", "--algorithms", "sha256", "file.bin", "-"],
        cwd=tmp_path,
        env=small_slots,
        input=CONTENT[:size_bytes],
    )

    assert ours == theirs


def test_several_algorithms_give_a_tagged_line_each(hash_worker: Any, tmp_path: Path) -> None:
    """As `md5sum --tag` writes it."""
    (tmp_path / "file.bin").write_bytes(CONTENT)

    done = hash_worker("hash", "file.bin", "--algorithms", "md5,sha1")

    assert done.stdout.splitlines() == [
        subprocess.check_output([program, "--tag", "file.bin"], cwd=tmp_path, text=True).rstrip("\n")
        for program in ("md5sum", "sha1sum")
    ]


def test_standard_input_is_read_in_pieces_of_any_size(hash_worker: Any) -> None:
    """A pipe gives few bytes at a time, and the digest is that of all of them."""
    done = hash_worker("hash", "--algorithms", "md5", "-", stdin="abc" * 100_000)

    digest = hashlib.md5(b"abc" * 100_000, usedforsecurity=False).hexdigest()
    assert done.stdout == f"{digest}  -\n"


def test_a_target_that_fails_is_told_and_the_others_go_on(hash_worker: Any, tmp_path: Path) -> None:
    """Exit status 1; a missing file and a folder get one sentence each on standard error."""
    (tmp_path / "file.bin").write_bytes(b"abc")
    (tmp_path / "folder").mkdir()

    done = hash_worker("hash", "--algorithms", "md5", "nowhere", "folder", "file.bin", "s3://b/key")

    assert done.returncode == 1
    assert done.stdout == "900150983cd24fb0d6963f7d28e17f72  file.bin\n"
    assert done.stderr.splitlines() == [
        "hash-worker: nowhere: No such file or directory.",
        "hash-worker: folder: It is a folder; --recursive hashes the files in it.",
        "hash-worker: s3://b/key: the settings hold no S3 credentials for bucket b; add them there.",
    ]


def hash_command(*arguments: str, signals: str = "--default-signal") -> list[str]:
    """Make a command with signals as a terminal sets them, whatever the tests' own shell has them ignore."""
    return ["env", signals, sys.executable, "-m", "worker", "hash", *arguments]


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a `hash` of a file and of something that never gives a byte, and wait for the file's line."""
    (tmp_path / "file.bin").write_bytes(b"abc")
    os.mkfifo(tmp_path / "fifo")
    with ExitStack() as stack:

        def start(target: str, *, signals: str = "--default-signal") -> "subprocess.Popen[str]":
            command = hash_command("--algorithms", "md5", "file.bin", target, signals=signals)
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline().endswith("  file.bin\n")
            return process

        yield start


@pytest.mark.parametrize("target", ["-", "fifo"])
def test_ctrl_c_ends_the_waiting_for_bytes_at_once(
    waiting: Callable[..., "subprocess.Popen[str]"], target: str
) -> None:
    """Standard input with nothing in it, and a FIFO that nobody writes to."""
    process = waiting(target)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)

    assert process.returncode == 130
    assert process.stderr is not None
    assert process.stderr.read() == "hash-worker: Stopped; nothing is left running.\n"


def test_sigterm_ends_what_a_shell_has_started_in_the_background(
    waiting: Callable[..., "subprocess.Popen[str]"],
) -> None:
    """It starts with SIGINT ignored, and goes on ignoring it."""
    process = waiting("-", signals="--ignore-signal=INT")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)

    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_who_is_stopped_leaves_no_list_behind(tmp_path: Path, number: signal.Signals) -> None:
    """By Ctrl-C or by the end of its terminal: a list is there whole, or not at all; the sentence says so."""
    command = hash_command("--output-dir", "lists", "-")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stderr=pipe, text=True) as process:
        # Its lanes: by then it is waiting for standard input.
        until(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text)
        process.send_signal(number)
        process.wait(timeout=20)
        assert process.stderr is not None
        told = process.stderr.read()

    assert process.returncode == 130
    assert told == "hash-worker: Stopped; no list was written, and nothing is left running.\n"
    assert not list((tmp_path / "lists").iterdir())
