"""Shell completion, as bash asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("hash-worker")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("hash-worker ha", ["hash"]),
        ("hash-worker hash --out", ["--output-dir"]),
        ("hash-worker hash --ig", ["--ignore-missing"]),
    ],
)
def test_bash_completes_commands_and_options(words: str, completed: list[str]) -> None:
    """What `--install-completion` puts into its settings asks so."""
    asked = {
        "_HASH_WORKER_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }

    done = subprocess.run([PROGRAM], env={**os.environ, **asked}, capture_output=True, text=True, check=False)

    assert done.stdout.split() == completed
