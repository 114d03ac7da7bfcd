"""`hash-worker algorithms`: what can be hashed with here, and how fast."""

from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from worker.cli.terminal import FAILED, Json, out, say_wrong

if TYPE_CHECKING:
    from worker.hashing.algorithms import Algorithm

# With 15 algorithms of our own the command takes a second.
_MEASURE_SECONDS = 0.04

commands = typer.Typer()


@commands.command(rich_help_panel="On this machine")
def algorithms(as_json: Json = False) -> None:
    """List the algorithms that `--algorithms`, payloads and settings may name, and measure them.

    A core of this machine hashes so many GB/s with each. What is resumable can go on in another lane, so that
    one large object uses every core and a lane's death costs nothing; the rest stays in one lane.

    An installed package adds its own by an entry point in the group `worker.algorithms`, a notebook by
    `register_algorithm`:

        hash-worker algorithms
        hash-worker algorithms --json | jq -r '.[].name'
        hash-worker hash file.bin --algorithms sha256,xxh3-64

    Exit status 1: a package offers one that can't be used; standard error tells why.
    """
    from worker.hashing.added_code import contained
    from worker.hashing.errors import BadAlgorithmError
    from worker.hashing.registry import list_algorithms

    shown, faults = [], []
    for name, origin, found in list_algorithms():
        if isinstance(found, BadAlgorithmError):
            faults.append(f"{origin}: {found}")
            continue
        try:
            with contained("it failed when it was measured"):
                measured = _measured(found)
        except ValueError as error:
            faults.append(f"{origin}: {BadAlgorithmError(name, str(error))}")
        else:
            shown.append({"name": name, **measured, "origin": origin})
    if as_json:
        out.print_json(data=shown)
    else:
        out.print(_table(shown))
    for fault in faults:
        say_wrong(fault)
    raise typer.Exit(FAILED if faults else 0)


def _measured(algorithm: "Algorithm") -> dict[str, Any]:
    from worker.hashing.contexts import is_shareable
    from worker.hashing.speed import measure_seconds_per_gb

    return {
        "bits": algorithm.digest_bits,
        "gb_per_second": round(1 / measure_seconds_per_gb(algorithm.new, _MEASURE_SECONDS), 4),
        "resumable": is_shareable(algorithm),
    }


def _table(shown: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("name")
    table.add_column("bits", justify="right")
    table.add_column("GB/s of one core", justify="right")
    table.add_column("resumable")
    table.add_column("from")
    for row in shown:
        speed = f"{row['gb_per_second']:.2g}" if row["gb_per_second"] < 1 else f"{row['gb_per_second']:.1f}"
        cells = (row["name"], str(row["bits"]), speed, "yes" if row["resumable"] else "no", row["origin"])
        table.add_row(*map(Text, cells))
    return table
