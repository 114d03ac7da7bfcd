"""One job's progress, for `hash-worker status`: found, looked at until it has ended, drawn."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.jobs.ledger import JobState, Snapshot
from worker.jobs.messages import BYTES_PER_MB, duration
from worker.libsafe.addresses import api_address
from worker.queueing.intake import Intake, KnownJob

ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.LEFT})
"""States after which there is nothing more to see."""

_COLOURS = {
    JobState.WAITING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.LEFT: "yellow",
}
_PARKED = "it waits for its dead letter to be requeued; see `hash-worker dead`"
_BAR_COLUMNS = 40
_LOOK_SECONDS = 1.0


class NoSuchJobError(Exception):
    """None is meant, or more than one; its text says what to do."""


async def find_job(intake: Intake, job_id: str, platform: str) -> KnownJob:
    """Find the job that is meant.

    Args:
        intake: Of the broker.
        job_id: Its id on its platform.
        platform: The platform's address; empty where only one has such a job.

    Raises:
        NoSuchJobError: None is meant, or more than one, or the platform's address is none.
        BrokerAwayError: It can't be asked.
    """
    jobs = await intake.jobs(job_id)
    if not jobs:
        raise NoSuchJobError(
            f"No job {job_id} is known here: nobody has put it on the queue, or it ended 30 days ago."
        )
    try:
        wanted = {api_address(platform)} if platform else {job.platform for job in jobs}
    except ValueError as fault:
        raise NoSuchJobError(f"--platform {fault}.") from None
    found = [job for job in jobs if job.platform in wanted]
    if len(found) == 1:
        return found[0]
    what = f"That platform has no job {job_id} here" if platform else f"There is more than one job {job_id}"
    platforms = " or ".join(job.platform for job in jobs)
    raise NoSuchJobError(f"{what}; give --platform {platforms}.")


async def watch_job(intake: Intake, job_id: str, platform: str, show: Callable[[KnownJob], None]) -> KnownJob:
    """Show a job each second until it has ended, and give the last that was shown; see `find_job`."""
    while True:
        job = await find_job(intake, job_id, platform)
        show(job)
        if job.snapshot.state in ENDED:
            return job
        # Another platform may get a job of this id meanwhile.
        platform = job.platform
        await asyncio.sleep(_LOOK_SECONDS)


def job_json(job_id: str, job: KnownJob) -> dict[str, Any]:
    """Give what `--json` prints; the gateway's answer is the same."""
    return {
        "job_id": job_id,
        "task_id": job.task_id,
        "platform": job.platform,
        **job.snapshot.as_json(),
    }


def job_line(job_id: str, job: KnownJob) -> str:
    """Say in one line how far a job is, for logs and pipes."""
    return ", ".join([f"Job {job_id}: {job.snapshot.state}", *_line_parts(job.snapshot)])


def draw_job(job_id: str, job: KnownJob) -> RenderableType:
    """Draw how far a job is."""
    heading = Text(f"Job {job_id} of {job.platform}  ", "bold")
    heading.append(job.snapshot.state, _COLOURS[job.snapshot.state])
    facts = Table.grid(padding=(0, 2))
    for label, fact in _facts(job.snapshot).items():
        facts.add_row(Text(label, "dim"), Text(fact))
    return Group(heading, _bar(job.snapshot), facts)


def _bar(snapshot: Snapshot) -> RenderableType:
    is_open = snapshot.share is None and snapshot.state not in ENDED
    bar = ProgressBar(total=1.0, completed=snapshot.share or 0.0, width=_BAR_COLUMNS, pulse=is_open)
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, _percent(snapshot))
    return line


def _facts(snapshot: Snapshot) -> dict[str, str]:
    """Say what is known, by its label; what is nothing out of the ordinary is left out."""
    broken = snapshot.broken_batches
    counts = {
        "files": _of(f"{snapshot.done_files:,}", f"{snapshot.files:,}", snapshot),
        "bytes": _of(decimal(snapshot.done_bytes), decimal(snapshot.size_bytes), snapshot),
        "rate": ", ".join(_rate(snapshot)),
        "time": duration(snapshot.seconds),
    }
    facts = {
        **({} if snapshot.state is JobState.WAITING else counts),
        "not hashed": _by_code(snapshot.not_hashed),
        "passed over": _by_code(snapshot.passed_over),
        "batches": f"{snapshot.settled_batches} of {snapshot.batches} settled" if snapshot.batches else "",
        "broken off": _counted(broken, "batch", "batches") if broken else "",
        "parked": _PARKED if snapshot.is_parked else "",
        "cancelled": snapshot.cancelled,
    }
    return {label: fact for label, fact in facts.items() if fact}


def _line_parts(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.is_planned:
        yield _percent(snapshot)
        yield f"{snapshot.done_files:,} of {_counted(snapshot.files, 'file', 'files')}"
        yield from _rate(snapshot)
    elif snapshot.files:
        yield f"{_counted(snapshot.files, 'file', 'files')} planned so far"
    if snapshot.not_hashed:
        yield f"{_counted(sum(snapshot.not_hashed.values()), 'file', 'files')} not hashed"
    if snapshot.is_parked:
        yield f"parked: {_PARKED}"
    if snapshot.cancelled:
        yield f"cancelled: {snapshot.cancelled}"


def _percent(snapshot: Snapshot) -> str:
    return "" if snapshot.share is None else f"{int(snapshot.share * 100)} %"


def _rate(snapshot: Snapshot) -> Iterator[str]:
    yield f"{snapshot.bytes_per_second / BYTES_PER_MB:.1f} MB/s"
    if snapshot.seconds_left is not None:
        yield f"{duration(snapshot.seconds_left)} left"


def _of(done: str, total: str, snapshot: Snapshot) -> str:
    return f"{done} of {total}" if snapshot.is_planned else f"{done}, {total} planned so far"


def _by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {code.replace('_', ' ')}" for code, count in sorted(counts.items()))


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
