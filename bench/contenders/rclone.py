"""`rclone hashsum --download`, once for each algorithm, since one run knows one; files are read at once."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.work import Digests, Work


def missing() -> str:
    """Tell what is missing."""
    return "" if _program() else "rclone is not installed"


@contextmanager
def opened(work: Work) -> Iterator[Callable[[], Digests]]:
    """Give what hashes all objects."""

    def hash_all() -> Digests:
        digests: Digests = {key: {} for key in work.keys}
        for name in work.algorithms:
            for line in _hashsum(work, name).splitlines():
                text, key = line.split(maxsplit=1)
                digests[key][name] = text
        return digests

    yield hash_all


def _hashsum(work: Work, name: str) -> str:
    program = _program()
    assert program is not None, "ask for what is missing first"
    remote = f":http,url='{work.endpoint_url}/{work.bucket}/':"
    # With the names given it lists nothing: a plain HTTP server has no list.
    command = [
        program,
        "--config=",
        "hashsum",
        name,
        "--download",
        "--no-traverse",
        "--files-from-raw=-",
        remote,
    ]
    done = subprocess.run(  # noqa: S603 - rclone itself
        command, input="\n".join(work.keys), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"rclone: {done.stderr.splitlines()[-1]}")
    return done.stdout


def _program() -> str | None:
    beside_python = Path(sys.executable).with_name("rclone")
    return str(beside_python) if beside_python.exists() else shutil.which("rclone")
