"""Commands of a service: `run`, `gateway`, `flower` and `check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from worker.cli.terminal import FAILED, Json, leave, load_settings, out, payload_of, read, run_to_end
from worker.observability import configure_logging
from worker.settings import Settings, SettingsError, load

_COLOURS = {"ok": "green", "wrong": "red", "unknown": "yellow"}

_PANEL = "As a service"

commands = typer.Typer()


@commands.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=_PANEL
)
def run(context: typer.Context) -> None:
    """Run a Celery worker; more options of `celery worker` may follow.

    It takes payloads and batches of large jobs from the queues, several at once:

        hash-worker run
        hash-worker run --concurrency 8 --hostname archive@%h

    SIGTERM or Ctrl-C ends it: what runs has worker.grace_seconds, and then goes back to the queue.
    """
    loaded = _begin()
    from worker.bootstrap.service import run_worker
    from worker.hashing.errors import HashingError

    try:
        status = run_worker(loaded, context.args)
    except SettingsError as error:
        leave(str(error))
    except HashingError as error:
        leave(str(error), FAILED)
    raise typer.Exit(status)


@commands.command(rich_help_panel=_PANEL)
def gateway() -> None:
    """Take payloads by HTTP, for triggers that can't reach the queue: POST /v1/jobs.

    It prints where it is, and serves until SIGTERM or Ctrl-C. The settings gateway.host, .port and .token say
    where, and who may hand in:

        curl -H "Authorization: Bearer $TOKEN" --data @payload.json http://127.0.0.1:8080/v1/jobs

    GET /v1/jobs/299 tells how far job 299 is, DELETE cancels it.
    """
    from worker.gateway import run_gateway

    loaded = _begin()
    try:
        run_to_end(
            run_gateway(loaded, lambda url: typer.echo(f"The gateway is at {url}")),
            when_stopped="The gateway has ended.",
            stopped_status=0,
        )
    except SettingsError as error:
        leave(str(error))


@commands.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=_PANEL
)
def flower(context: typer.Context) -> None:
    """Watch the workers in a browser, with Flower; more options of `celery flower` may follow.

    The settings flower.host, .port, .user and .password say where, and who may look:

        HASH_WORKER_FLOWER__PASSWORD_FILE=flower_password hash-worker flower

    Whoever may look may also end tasks; --read_only=True forbids it.
    """
    from worker.bootstrap.service import run_flower

    loaded = _begin()
    try:
        run_flower(loaded, context.args)
    except SettingsError as error:
        leave(str(error))


@commands.command(rich_help_panel=_PANEL)
def check(
    payload: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Try this payload's key and storage too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell whether all that a worker needs is there and right: one line each, status 1 if one is wrong.

    To be run with the very settings that the worker has; a payload has more of them tried:

        hash-worker check
        hash-worker check --payload payload.json

    What could not be asked is `unknown`; its line tells how to have it asked.
    """
    from worker import check as checking

    findings: list[checking.Finding] = []

    def show(finding: checking.Finding) -> None:
        findings.append(finding)
        if not as_json:
            mark = f"[{_COLOURS[finding.state]}]{finding.state:<7}[/]"
            out.print(f"{mark} {escape(finding.part)}: {escape(finding.detail)}")

    async def look(loaded: Settings) -> None:
        async for finding in checking.check(loaded, parsed):
            show(finding)

    parsed = payload_of(read(payload)) if payload else None
    try:
        loaded = load()
    except SettingsError as error:
        for finding in checking.load_findings(error):
            show(finding)
    else:
        configure_logging("ERROR", loaded.log.format)
        run_to_end(look(loaded))
    if as_json:
        out.print_json(data=[finding.as_json() for finding in findings])
    raise typer.Exit(FAILED if any(finding.state == "wrong" for finding in findings) else 0)


def _begin() -> Settings:
    """Read a service's settings, have its lines logged as they say, and leave if the broker refuses it."""
    from worker.queueing.broker import PasswordRefusedError, check_password

    loaded = load_settings()
    configure_logging(loaded.log.level, loaded.log.format)
    try:
        check_password(loaded.broker.address)
    except PasswordRefusedError as error:
        leave(str(error))
    return loaded
