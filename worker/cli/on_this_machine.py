"""Commands that need nothing else: `demo`, `hash` and `local`."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.terminal import (
    FAILED,
    Algorithms,
    Json,
    algorithm_names,
    err,
    leave,
    load_settings,
    out,
    resolved,
    run_to_end,
    say_wrong,
)
from worker.observability import configure_logging

if TYPE_CHECKING:
    from worker.local.demo import DemoResult
    from worker.targets import Hashed

_PANEL = "On this machine"

commands = typer.Typer()


@commands.command(rich_help_panel=_PANEL)
def demo(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]…", help="Files and folders; a sample if none.")
    ] = None,
    algorithms: Algorithms = "",
    as_json: Json = False,
) -> None:
    """Run the main job on this machine: broker, S3, platform, one real worker; print the digests.

    Nothing has to be installed or set, and nothing is left running. The exit status is 0 only if the job
    ended COMPLETED.
    """
    from worker.local import demo_view
    from worker.local.demo import run_demo
    from worker.local.sample import make_sample

    names = algorithm_names(algorithms)
    for path in paths or ():
        if not path.exists():
            leave(f"{path}: there is no such file or folder.")
    with tempfile.TemporaryDirectory(prefix="hash-worker-") as folder:
        directory = Path(folder)
        with demo_view.progress(err) as show:

            async def run_it() -> "DemoResult":
                return await run_demo(directory, paths or [make_sample(directory)], names, show)

            result = run_to_end(run_it())
    if as_json:
        typer.echo(json.dumps(result.as_json(), ensure_ascii=False))
    else:
        demo_view.show_result(out, result)
    raise typer.Exit(0 if result.completed else FAILED)


@commands.command("hash", rich_help_panel=_PANEL)
def hash_(
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET…", help="A path, - for standard input, or s3://bucket/key.")
    ],
    algorithms: Algorithms = "",
    as_json: Json = False,
) -> None:
    """Print digests, calculated as a job does it but without queue and platform.

    One line for each: `<hex>  <name>` as coreutils write it, or with several algorithms
    `MD5 (<name>) = <hex>`. S3 credentials come from the settings: the storage with that bucket, or default.
    """
    from worker.targets import hash_targets

    loaded = load_settings()
    configure_logging("WARNING", loaded.log.format)
    named = algorithm_names(algorithms) or loaded.hashing.algorithms
    chosen = resolved(named, "Wrong settings: hashing.algorithms: ")

    async def print_all() -> "list[Hashed]":
        results = []
        async for hashed in hash_targets(loaded, targets, chosen):
            results.append(hashed)
            if hashed.error:
                say_wrong(hashed.error)
            for algorithm in chosen if hashed.digests and not as_json else ():
                digest = hashed.digests[algorithm.name]
                bsd = f"{algorithm.label} ({hashed.target}) = {digest}"
                typer.echo(bsd if len(chosen) > 1 else f"{digest}  {hashed.target}")
        return results

    results = run_to_end(print_all())
    if as_json:
        typer.echo(json.dumps([hashed.as_json() for hashed in results], ensure_ascii=False))
    raise typer.Exit(FAILED if any(hashed.error for hashed in results) else 0)


@commands.command(rich_help_panel=_PANEL)
def local(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]…", help="Files and folders to put on the platform.")
    ] = None,
) -> None:
    """Run the platform on this machine, in the foreground: jobs API, S3 and broker, until Ctrl-C.

    It prints where everything is, and how to run a worker and a job against it.
    """
    from worker.local.foreground import run_in_foreground

    with tempfile.TemporaryDirectory(prefix="hash-worker-") as folder:
        run_to_end(run_in_foreground(Path(folder), paths or (), typer.echo))
