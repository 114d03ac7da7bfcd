"""Any command where a standard stream is closed, full or no Unicode, and Ctrl-C while it begins."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MD5 = "900150983cd24fb0d6963f7d28e17f72"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path) -> Run:
    """Run `hash-worker …` by a shell that redirects its streams, beside a file `abc`."""
    (tmp_path / "abc").write_bytes(b"abc")

    def run(arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", f"{sys.executable} -m worker {arguments}"],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_where_nobody_hears_of_a_fault_the_rest_is_done_all_the_same(
    shell: Run, tmp_path: Path, redirection: str
) -> None:
    """Lines and lists are whole; the exit status tells, as md5sum's does."""
    lines = shell(f"hash nowhere abc --algorithms md5 {redirection}")
    lists = shell(f"hash nowhere abc --algorithms md5 --output-dir lists {redirection}")

    assert (lines.returncode, lines.stdout) == (1, f"{MD5}  abc\n")
    assert (lists.returncode, lists.stdout) == (1, "lists/MD5SUMS\n")
    assert (tmp_path / "lists/MD5SUMS").read_text() == f"{MD5}  abc\n"


def test_what_is_wrong_with_the_call_has_its_exit_status_also_where_nobody_hears_it(shell: Run) -> None:
    """It is 2, not Python's own for a stream that can't be written at the very end."""
    assert shell("hash --no-such-option 2>/dev/full").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [("--version", ""), ("--version", "1"), ("hash --help", ""), ("algorithms", "")],
)
def test_a_standard_output_that_is_full_is_told_by_every_command(
    shell: Run, arguments: str, unbuffered: str
) -> None:
    """Exit status 1, whether Python keeps lines back or not."""
    done = shell(f"{arguments} >/dev/full", PYTHONUNBUFFERED=unbuffered)

    assert done.returncode == 1
    assert done.stderr == "hash-worker: Standard output can't be written: No space left on device.\n"


def test_help_can_be_read_where_the_locale_is_no_unicode(shell: Run) -> None:
    """Whole, and without escapes."""
    done = shell("hash --help", PYTHONIOENCODING="latin-1", COLUMNS="100")

    assert (done.returncode, done.stderr) == (0, "")
    assert "--algorithms" in done.stdout
    assert "\\u" not in done.stdout


CTRL_C = """
import signal, sys
from worker.cli import main

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
module = sys.argv.pop(1)
main()
"""


@pytest.mark.parametrize("module", ["typer", "worker.cli.hash_digests"])
def test_ctrl_c_while_a_command_begins_ends_it_in_one_sentence(tmp_path: Path, module: str) -> None:
    """Also while its libraries are loaded."""
    command = [sys.executable, "-c", CTRL_C, module, "hash", "abc"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "hash-worker: Stopped.\n")
