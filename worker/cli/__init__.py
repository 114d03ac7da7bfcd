"""The command line. It reads and prints; the work is done below.

The work's own modules are imported where a command needs them: `--help` stays quick, and a worker's image
does without the local platform.
"""

from typing import Annotated

import typer

from worker import __version__
from worker.cli import algorithms, dead, jobs, on_this_machine, services
from worker.cli import hash as hashing
from worker.observability import configure_logging

app = typer.Typer(
    name="hash-worker",
    help="Hashes the files of a LIBSAFE Go platform: a payload in, digests, messages and an ended job out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # They print local variables, and so keys.
    pretty_exceptions_enable=False,
)
for group in (hashing, on_this_machine, algorithms, services, jobs):
    app.add_typer(group.commands)
app.add_typer(dead.commands, name="dead", rich_help_panel="What was given up")


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    # Until a command has read its settings: standard output belongs to results.
    configure_logging("WARNING", "auto")
    if version:
        typer.echo(__version__)
        raise typer.Exit
