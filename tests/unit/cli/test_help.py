"""What `--help` teaches."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.app import app


def _commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        yield from _commands(command, *path, name) if hasattr(command, "commands") else ()


@pytest.mark.parametrize("command", [*_commands(typer.main.get_command(app))], ids=" ".join)
def test_every_command_shows_how_it_is_called(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By examples, each on a line of its own, to be copied."""
    monkeypatch.setenv("COLUMNS", "100")

    shown = CliRunner().invoke(app, [*command, "--help"]).output

    assert re.search(r"^  (HASH_WORKER_\w+=\S+ )?(hash-worker \S+|curl ).*$", shown, re.MULTILINE)
