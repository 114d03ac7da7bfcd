"""All commands, in one `app`."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from worker import __version__
from worker.cli import algorithms, dead, jobs, on_this_machine, services
from worker.cli import hash as hashing
from worker.cli.terminal import INTERRUPTED, leave
from worker.observability import configure_logging


class _Commands(TyperGroup):
    """The commands; Ctrl-C that none of them sees has its sentence here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            leave("Stopped.", INTERRUPTED)


app = typer.Typer(
    name="hash-worker",
    help="Hashes the files of a LIBSAFE Go platform: a payload in, digests, messages and an ended job out.",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # They print local variables, and so keys.
    pretty_exceptions_enable=False,
)
for group in (hashing, on_this_machine, algorithms, services, jobs):
    app.add_typer(group.commands)
app.add_typer(dead.commands, name="dead", rich_help_panel="What was given up")


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    # Until a command has read its settings: standard output belongs to results.
    configure_logging("WARNING", "auto")
    if version:
        typer.echo(__version__)
        raise typer.Exit
