"""Commands about one job: `enqueue`, `status` and `cancel`."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from worker.cli.terminal import FAILED, Json, leave, load_settings, out, payload_of, read, run_to_end
from worker.observability import configure_logging

if TYPE_CHECKING:
    from worker.queueing.intake import Intake, KnownJob

ResultT = TypeVar("ResultT")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id on its platform.")]
Platform = Annotated[
    str,
    typer.Option(
        "--platform", metavar="URL", help="The job's platform, where several have a job of this id."
    ),
]

_PANEL = "One job"
_AWAY = "The broker can't be asked for the job; `hash-worker check` tells why."

commands = typer.Typer()


@commands.command(rich_help_panel=_PANEL)
def enqueue(
    payload: Annotated[Path, typer.Argument(metavar="FILE", help="A payload as JSON; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Put a payload on the queue and print the task's id.

    A payload of the same job is put there once, until 30 days later, and the same id is printed again:

        hash-worker enqueue payload.json
        hash-worker enqueue - --json < payload.json

    Exit status 1: the broker is away or full; 2: the payload can't be used, and each fault is told.
    """
    text = read(payload)
    address = payload_of(text).address

    async def put(intake: "Intake") -> str:
        from worker.queueing.intake import MessageTooLongError

        try:
            return await intake.accept(address, json.loads(text))
        except MessageTooLongError:
            leave("The payload is too long for the queue; name fewer files in one job.")

    task_id = _ask_broker(
        put,
        away="The broker did not take the payload, or did not say so; `hash-worker check` tells why. "
        "It can be enqueued again, and is run once.",
        when_stopped="Stopped; the payload may be on the queue. It can be enqueued again, and is run once.",
    )
    out.print_json(data={"job_id": address.job_id, "task_id": task_id}) if as_json else out.print(task_id)


@commands.command(rich_help_panel=_PANEL)
def status(
    job_id: JobId,
    platform: Platform = "",
    once: Annotated[bool, typer.Option("--once", help="Draw it once and end.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far a job is, live until it has ended; Ctrl-C ends only the showing.

    Into a pipe it prints one line, with --json one document, and ends:

        hash-worker status 299
        hash-worker status 299 --platform https://go.example.org
        hash-worker status 299 --json | jq .share

    Exit status 0: COMPLETED, or still going when it was looked at; 1: FAILED, or ended by the platform
    itself; 2: no such job, or several platforms have one.
    """
    from rich.live import Live

    from worker.jobs.ledger import JobState
    from worker.status import draw_job, find_job, job_json, job_line, watch_job

    async def look(intake: "Intake") -> "KnownJob":
        if out.is_terminal and not as_json and not once:
            with Live(console=out, auto_refresh=False) as live:
                return await watch_job(
                    intake, job_id, platform, lambda job: live.update(draw_job(job_id, job), refresh=True)
                )
        job = await find_job(intake, job_id, platform)
        if as_json:
            out.print_json(data=job_json(job_id, job))
        elif out.is_terminal:
            out.print(draw_job(job_id, job))
        else:
            typer.echo(job_line(job_id, job))
        return job

    job = _ask_broker(look, away=_AWAY, when_stopped="Stopped looking; the job goes on.")
    raise typer.Exit(FAILED if job.snapshot.state in {JobState.FAILED, JobState.LEFT} else 0)


@commands.command(rich_help_panel=_PANEL)
def cancel(job_id: JobId, platform: Platform = "") -> None:
    """End a job: what runs stops within seconds, nothing more is begun, its platform is told FAILED.

    Where several platforms have a job of this id, one is named:

        hash-worker cancel 299
        hash-worker cancel 299 --platform https://go.example.org

    Exit status 0: it ends soon; 1: it had ended already, or waits for its dead letter to be seen to; 2: no
    such job, or several platforms have one.
    """
    from worker.status import find_job

    async def end(intake: "Intake") -> bool:
        job = await find_job(intake, job_id, platform)
        if job.snapshot.is_parked:
            leave(f"Job {job_id} is parked; `hash-worker dead` shows its dead letter.", FAILED)
        return await intake.cancel(job, "it was cancelled.")

    if not _ask_broker(end, away=_AWAY, when_stopped="Stopped; the job may be cancelled or not."):
        leave(f"Job {job_id} has ended already.", FAILED)
    typer.echo(f"Job {job_id} is cancelled; it ends FAILED.")


def _ask_broker(ask: Callable[["Intake"], Awaitable[ResultT]], *, away: str, when_stopped: str) -> ResultT:
    """Ask the broker, which answers within seconds or is away.

    Args:
        ask: What is to be asked.
        away: What is said when it is away; the exit status is 1 then.
        when_stopped: What is said after Ctrl-C.
    """
    from worker.queueing.intake import BrokerAwayError, open_intake
    from worker.status import NoSuchJobError

    loaded = load_settings()
    # A broker that is away is told here, in one sentence.
    configure_logging("ERROR", loaded.log.format)

    async def asked() -> ResultT:
        async with open_intake(loaded.broker.address) as intake:
            return await ask(intake)

    try:
        return run_to_end(asked(), when_stopped=when_stopped)
    except NoSuchJobError as error:
        leave(str(error))
    except BrokerAwayError:
        leave(away, FAILED)
