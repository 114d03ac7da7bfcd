"""The command line. It reads and prints; the work is done below."""

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from worker import __version__, settings
from worker.observability import configure_logging

if TYPE_CHECKING:
    from worker.hashing.algorithms import Algorithm
    from worker.queueing.dead_letters import DeadLetters

# The work's own modules are imported where a command needs them: `--help` stays quick, and a worker's
# image does without the local platform.

FAILED = 1
"""Exit status: done, but not all is as it should be."""
UNUSABLE = 2
"""Exit status: what was asked can't be begun."""
INTERRUPTED = 130
"""Exit status: stopped by Ctrl-C, as shells tell it."""

ResultT = TypeVar("ResultT")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Algorithms = Annotated[
    str, typer.Option("--algorithms", metavar="NAME,…", help="Algorithms, with commas between them.")
]
LetterIds = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]…", help="Ids, as `hash-worker dead` lists.")
]
EveryLetter = Annotated[bool, typer.Option("--all", help="Every dead letter.")]

app = typer.Typer(
    name="hash-worker",
    help="Hashes the files of a LIBSAFE Go platform: a payload in, digests, messages and an ended job out.",
    no_args_is_help=True,
    # They print local variables, and so keys.
    pretty_exceptions_enable=False,
)
dead_app = typer.Typer()
app.add_typer(dead_app, name="dead")
_COLOURS = {"ok": "green", "wrong": "red", "unknown": "yellow"}
_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)


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


@app.command()
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
    from worker.local.demo import DemoResult, run_demo
    from worker.local.sample import make_sample

    names = _algorithm_names(algorithms)
    for path in paths or ():
        if not path.exists():
            _stop(f"{path}: there is no such file or folder.")
    with tempfile.TemporaryDirectory(prefix="hash-worker-") as folder:
        directory = Path(folder)
        with demo_view.progress(_err) as show:

            async def run_it() -> DemoResult:
                return await run_demo(directory, paths or [make_sample(directory)], names, show)

            result = _run(run_it())
    if as_json:
        typer.echo(json.dumps(result.as_json(), ensure_ascii=False))
    else:
        demo_view.show_result(_out, result)
    raise typer.Exit(0 if result.completed else FAILED)


@app.command("hash")
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
    from worker.targets import Hashed, hash_targets

    loaded = _settings()
    configure_logging("WARNING", loaded.log.format)
    named = _algorithm_names(algorithms) or loaded.hashing.algorithms
    chosen = _resolve(named, "Wrong settings: hashing.algorithms: ")

    async def print_all() -> list[Hashed]:
        results = []
        async for hashed in hash_targets(loaded, targets, chosen):
            results.append(hashed)
            if hashed.error:
                _err.print(f"hash-worker: {hashed.error}", markup=False, highlight=False)
            for algorithm in chosen if hashed.digests and not as_json else ():
                digest = hashed.digests[algorithm.name]
                bsd = f"{algorithm.label} ({hashed.target}) = {digest}"
                typer.echo(bsd if len(chosen) > 1 else f"{digest}  {hashed.target}")
        return results

    results = _run(print_all())
    if as_json:
        typer.echo(json.dumps([hashed.as_json() for hashed in results], ensure_ascii=False))
    raise typer.Exit(FAILED if any(hashed.error for hashed in results) else 0)


@app.command()
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
        _run(run_in_foreground(Path(folder), paths or (), typer.echo))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context) -> None:
    """Run a Celery worker; more options of `celery worker` may follow."""
    loaded = _settings()
    configure_logging(loaded.log.level, loaded.log.format)
    from worker.bootstrap import run_worker
    from worker.hashing.errors import HashingError

    try:
        status = run_worker(loaded, context.args)
    except settings.SettingsError as error:
        _stop(str(error))
    except HashingError as error:
        _stop(str(error), FAILED)
    raise typer.Exit(status)


@app.command()
def enqueue(
    payload: Annotated[Path, typer.Argument(metavar="FILE", help="A payload as JSON; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Put a payload on the queue and print the task's id."""
    from kombu.exceptions import OperationalError

    from worker.queueing.app import enqueue as put_on_queue
    from worker.queueing.app import make_app

    text = _read(payload)
    job_id = _payload(text).address.job_id
    broker_url = _settings().broker.url.get_secret_value()
    try:
        task_id = put_on_queue(make_app(broker_url), json.loads(text))
    except OperationalError:
        _stop("The broker did not take the payload; `hash-worker check` tells why.", FAILED)
    _out.print_json(data={"job_id": job_id, "task_id": task_id}) if as_json else _out.print(task_id)


@app.command()
def check(
    payload: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Try this payload's key and storage too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell whether all that a worker needs is there and right: one line each, status 1 if one is wrong.

    What could not be asked is `unknown`; its line tells how to have it asked.
    """
    from worker.check import check as findings_of

    loaded = _settings()
    configure_logging("ERROR", loaded.log.format)
    parsed = _payload(_read(payload)) if payload else None

    async def look() -> list[dict[str, Any]]:
        findings = []
        async for finding in findings_of(loaded, parsed):
            findings.append(finding.as_json())
            if not as_json:
                mark = f"[{_COLOURS[finding.state]}]{finding.state:<7}[/]"
                _out.print(f"{mark} {escape(finding.part)}: {escape(finding.detail)}")
        return findings

    findings = _run(look())
    if as_json:
        _out.print_json(data=findings)
    raise typer.Exit(FAILED if any(finding["state"] == "wrong" for finding in findings) else 0)


@dead_app.callback(invoke_without_command=True)
def dead(context: typer.Context, as_json: Json = False) -> None:
    """List the dead letters: messages that could not be run, and jobs that were given up; or see below."""
    if context.invoked_subcommand:
        return
    with _dead_letters() as box:
        letters = box.letters()
    if as_json:
        shown = ("id", "kept_at", "reason", "task", "job_id")
        _out.print_json(data=[{name: getattr(letter, name) for name in shown} for letter in letters])
        return
    table = Table("id", "kept at", "job", "reason", box=None)
    for letter in letters:
        job = letter.job_id or letter.task or "unknown"
        table.add_row(*(Text(cell) for cell in (letter.id, letter.kept_at, job, letter.reason)))
    _out.print(table if letters else "There are no dead letters.")


@dead_app.command()
def requeue(ids: LetterIds = None, every: EveryLetter = False) -> None:
    """Put dead letters back on the queue; a job's attempts are forgotten. Exit status 1: one is not."""
    with _dead_letters() as box:
        _each_letter(box, ids, every, box.requeue, "is back on the queue")


@dead_app.command()
def drop(ids: LetterIds = None, every: EveryLetter = False) -> None:
    """Drop dead letters for good. Exit status 1: one is gone already."""
    with _dead_letters() as box:
        _each_letter(box, ids, every, box.drop, "is dropped")


@contextmanager
def _dead_letters() -> "Iterator[DeadLetters]":
    import redis

    from worker.queueing.dead_letters import DeadLetters

    try:
        yield DeadLetters(_settings().broker.url.get_secret_value())
    except redis.exceptions.RedisError:
        _stop("The broker can't be asked for dead letters; `hash-worker check` tells why.", FAILED)


def _each_letter(
    box: "DeadLetters", ids: list[str] | None, every: bool, do: Callable[[str], bool], done: str
) -> None:
    from worker.queueing.dead_letters import NothingToQueueError

    if bool(ids) == every:
        _stop("Give the ids of dead letters, or --all.")
    missing = False
    for letter_id in [letter.id for letter in box.letters()] if every else ids or ():
        try:
            is_done = do(letter_id)
        except NothingToQueueError as error:
            missing = True
            _err.print(f"hash-worker: {error}", markup=False, highlight=False)
            continue
        if is_done:
            _out.print(f"Dead letter {letter_id} {done}.", markup=False, highlight=False)
        else:
            missing = True
            _err.print(f"hash-worker: There is no dead letter {letter_id}.", markup=False, highlight=False)
    raise typer.Exit(FAILED if missing else 0)


def _settings() -> settings.Settings:
    try:
        return settings.load()
    except settings.SettingsError as error:
        _stop(str(error))


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        _stop(f"{path} can't be read: {error.strerror}.")


def _payload(text: bytes) -> Any:
    from worker.libsafe.errors import PayloadError
    from worker.libsafe.payload import Payload

    try:
        return Payload.parse(text)
    except PayloadError as error:
        _stop(str(error))


def _algorithm_names(text: str) -> tuple[str, ...]:
    names = text.replace(",", " ").split()
    return tuple(algorithm.name for algorithm in _resolve(names)) if names else ()


def _resolve(names: Sequence[str], where: str = "") -> "tuple[Algorithm, ...]":
    from worker.hashing.algorithms import resolve
    from worker.hashing.errors import UnknownAlgorithmError

    try:
        return resolve(names)
    except UnknownAlgorithmError as error:
        _stop(f"{where}{error}")


def _run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run to the end; Ctrl-C and SIGTERM cancel the work, and what it has open is closed before we leave."""
    from worker.hashing.errors import HashingError
    from worker.local.errors import LocalError

    async def stoppable() -> ResultT:
        running = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell has what it starts in the background ignore Ctrl-C.
            if signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, _cancel_once, running)
        return await running

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        _stop("Stopped; nothing is left running.", INTERRUPTED)
    except (LocalError, HashingError) as error:
        _stop(str(error), FAILED)


def _cancel_once(running: asyncio.Task[Any]) -> None:
    # A second Ctrl-C must not cut short what closes the rest.
    if not running.cancelling():
        running.cancel()


def _stop(reason: str, status: int = UNUSABLE) -> NoReturn:
    _err.print(f"hash-worker: {reason}", markup=False, highlight=False)
    raise typer.Exit(status)
