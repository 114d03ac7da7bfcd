"""Commands that need nothing else: `demo`, `local` and `try`."""

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
    run_to_end,
)

if TYPE_CHECKING:
    from worker.local.demo import DemoResult

_PANEL = "On this machine"

commands = typer.Typer()


@commands.command(rich_help_panel=_PANEL)
def demo(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Files and folders; a sample if none.")
    ] = None,
    algorithms: Algorithms = "",
    as_json: Json = False,
) -> None:
    """Run the main job on this machine: broker, S3, platform, one real worker; print the digests.

    Nothing has to be installed or set, and nothing is left running:

        hash-worker demo
        hash-worker demo ~/pictures --algorithms sha512,blake3 --json

    The exit status is 0 only if the job ended COMPLETED.
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


@commands.command(rich_help_panel=_PANEL)
def local(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Files and folders to put on the platform; a sample if none."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For other machines, which know this one by that name: the jobs API at port 8000, S3 at "
            "9000, no broker.",
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="LOCAL_DIRECTORY",
            help="A new folder for all that it keeps; without one it leaves nothing.",
        ),
    ] = None,
) -> None:
    """Run the platform on this machine, in the foreground: jobs API, S3 and broker, until Ctrl-C.

    It prints where everything is, and how to run a worker and a job against it:

        hash-worker local
        hash-worker local ~/pictures

    At its end everything that was put there is gone.
    """
    from worker.local.foreground import run_in_foreground

    with tempfile.TemporaryDirectory(prefix="hash-worker-") as folder:
        run_to_end(run_in_foreground(directory or Path(folder), paths or (), typer.echo, host=host))


@commands.command("try", rich_help_panel=_PANEL)
def try_(
    directory: Annotated[
        Path,
        typer.Option(metavar="DIR", envvar="LOCAL_DIRECTORY", help="The folder of `hash-worker local`."),
    ],
    gateway: Annotated[
        str, typer.Option(metavar="URL", envvar="LOCAL_GATEWAY", help="Where to hand the job in.")
    ] = "http://127.0.0.1:8080",
    algorithms: Algorithms = "",
    as_json: Json = False,
) -> None:
    """Run a job over all files of the platform that `hash-worker local` runs; print the digests.

    It is handed in at the gateway, with gateway.token of the settings, and any worker may do it:

        hash-worker try --directory /var/lib/platform --algorithms sha256,blake3

    The exit status is 0 only if it ended COMPLETED.
    """
    from worker.local import demo_view
    from worker.local.trial import run_trial

    loaded = load_settings()
    names = algorithm_names(algorithms)
    token = loaded.gateway.token.get_secret_value() if loaded.gateway.token else None
    with demo_view.progress(err) as show:
        trial = run_trial(directory, gateway, token, names, show)
        result = run_to_end(trial, when_stopped="Stopped looking; the job goes on.")
    if as_json:
        typer.echo(json.dumps(result.as_json(), ensure_ascii=False))
    else:
        demo_view.show_result(out, result)
    raise typer.Exit(0 if result.completed else FAILED)
