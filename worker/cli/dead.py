"""`hash-worker dead`: what was given up, and what is to become of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from worker.cli.terminal import FAILED, Json, leave, load_settings, out, say_wrong

if TYPE_CHECKING:
    from worker.queueing.dead_letters import DeadLetters

LetterIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Ids, as `hash-worker dead` lists.")
]
EveryLetter = Annotated[bool, typer.Option("--all", help="Every dead letter.")]

commands = typer.Typer()


@commands.callback(invoke_without_command=True)
def dead(context: typer.Context, as_json: Json = False) -> None:
    """List the dead letters: messages that could not be run, and jobs that were given up; or see below.

    They are kept until somebody decides what is to become of them:

        hash-worker dead
        hash-worker dead requeue 3
        hash-worker dead drop --all

    Each is told with its id, time, job and reason; never with a key.
    """
    if context.invoked_subcommand:
        return
    with _dead_letters() as box:
        letters = box.letters()
    if as_json:
        shown = ("id", "kept_at", "reason", "task", "job_id")
        out.print_json(data=[{name: getattr(letter, name) for name in shown} for letter in letters])
        return
    table = Table("id", "kept at", "job", "reason", box=None)
    for letter in letters:
        job = letter.job_id or letter.task or "unknown"
        table.add_row(*(Text(cell) for cell in (letter.id, letter.kept_at, job, letter.reason)))
    out.print(table if letters else "There are no dead letters.")


@commands.command()
def requeue(ids: LetterIds = None, every: EveryLetter = False) -> None:
    """Put dead letters back on the queue; a job's attempts are forgotten.

    That helps when the reason is gone:

        hash-worker dead requeue 3 4
        hash-worker dead requeue --all

    Exit status 1: one of them is not on the queue.
    """
    with _dead_letters() as box:
        _each_letter(box, ids, every, box.requeue, "is back on the queue")


@commands.command()
def drop(ids: LetterIds = None, every: EveryLetter = False) -> None:
    """Drop dead letters for good.

    What they asked for is not done:

        hash-worker dead drop 3

    Exit status 1: one is gone already.
    """
    with _dead_letters() as box:
        _each_letter(box, ids, every, box.drop, "is dropped")


@contextmanager
def _dead_letters() -> "Iterator[DeadLetters]":
    import redis

    from worker.queueing.dead_letters import DeadLetters

    try:
        yield DeadLetters(load_settings().broker.address)
    except redis.exceptions.RedisError:
        leave("The broker can't be asked for dead letters; `hash-worker check` tells why.", FAILED)


def _each_letter(
    box: "DeadLetters", ids: list[str] | None, every: bool, do: Callable[[str], bool], done: str
) -> None:
    from worker.queueing.dead_letters import NothingToQueueError

    if bool(ids) == every:
        leave("Give the ids of dead letters, or --all.")
    missing = False
    for letter_id in [letter.id for letter in box.letters()] if every else ids or ():
        try:
            is_done = do(letter_id)
        except NothingToQueueError as error:
            missing = True
            say_wrong(str(error))
            continue
        if is_done:
            out.print(f"Dead letter {letter_id} {done}.", markup=False, highlight=False)
        else:
            missing = True
            say_wrong(f"There is no dead letter {letter_id}.")
    raise typer.Exit(FAILED if missing else 0)
