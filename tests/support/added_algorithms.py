"""Algorithms that are not ours, as people add them: in a notebook's cell, in a module, in a package."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from worker.hashing import registry

CRC32 = """
import zlib

class Crc32:
    def __init__(self):
        self.value = 0

    def update(self, data):
        self.value = zlib.crc32(data, self.value)

    def digest(self):
        return self.value.to_bytes(4, "big")
"""
"""A class of three methods, which `zlib.crc32` judges."""


def forget_packages() -> None:
    """Have packages looked for anew: those of an earlier test are gone, or a new one has come."""
    registry._offers.cache_clear()
    registry._offered.cache_clear()


def begin_with_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a test with no algorithm added; what it adds goes with it."""
    monkeypatch.setattr(registry, "_registered", {})
    forget_packages()


def run_cell(source: str) -> dict[str, Any]:
    """Run a notebook's cell and give what it has defined; nobody can import that."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(source), namespace)  # noqa: S102 -- as a notebook does it
    return namespace


def add_package(folder: Path, name: str, source: str, **algorithms: str) -> None:
    """Put a package of one module into a folder, as an installer leaves it there.

    Args:
        folder: One for modules.
        name: The package's, and its module's.
        source: The module's.
        algorithms: Its entry points.
    """
    (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    offers = "".join(f"{algorithm} = {value}\n" for algorithm, value in algorithms.items())
    (about / "entry_points.txt").write_text(f"[worker.algorithms]\n{offers}", encoding="utf-8")
