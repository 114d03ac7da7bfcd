"""The programs of a service: a Celery worker that tells how it is, and Flower."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import click
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker
from click.core import ParameterSource
from redis.asyncio import Redis

from worker import metrics
from worker.bootstrap.runner import open_deliveries
from worker.health import serve_health
from worker.jobs.progress import Show
from worker.jobs.stopping import Stop
from worker.queueing.app import BATCH_QUEUE, QUEUE, make_app
from worker.queueing.broker import connection_pool
from worker.queueing.dead_letters import DeadLetters
from worker.queueing.deliveries import Deliveries
from worker.queueing.fate import Verdict
from worker.queueing.loop_thread import LoopThread
from worker.queueing.progress_events import ProgressEvents
from worker.queueing.pulse import Pulse
from worker.queueing.running import stop_after_grace
from worker.queueing.tasks import register
from worker.settings import (
    HealthSettings,
    Settings,
    SettingsError,
)

_PING_SECONDS = 2


def run_worker(settings: Settings, celery_options: Sequence[str] = ()) -> int:
    """Run a Celery worker until it is told to stop; lanes are warm before the first task.

    Args:
        settings: The settings.
        celery_options: More options of `celery worker`, as on its command line; neither the pool nor
            `--detach`.

    Returns:
        The worker's exit status: 0 if it was told to stop, else what Celery gives for its failure.

    Raises:
        SettingsError: A route template, a default algorithm or an option of Celery is wrong.
    """
    url = settings.broker.address
    app = make_app(
        url,
        visibility_timeout_seconds=settings.broker.visibility_timeout_seconds,
        sweep_seconds=settings.broker.sweep_seconds,
        batches_at_once=settings.worker.places_for_batches,
    )
    try:
        command = _celery_command(app, settings, celery_options)
        with ProgressEvents() as progress, LoopThread(lambda: _open_service(settings, app.pulse)) as loop:
            stop_after_grace(app, settings.worker.grace_seconds)
            app.pulse.watch(settings.worker.grace_seconds)
            pause_seconds = settings.worker.pause_seconds
            register(app, _InLoop(loop), DeadLetters(url), pause_seconds=pause_seconds, show=progress.show)
            # What Celery prints there when a signal comes is no log line.
            sys.__stdout__ = None  # type: ignore[misc]  # typeshed calls it final
            # Not app.worker_main, which drops the status.
            with command:
                celery_worker.invoke(command)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        raise SettingsError(f"Wrong option of celery worker: {error.format_message()}") from None
    return 0


def run_flower(settings: Settings, more_options: Sequence[str] = ()) -> None:
    """Run Flower until it is told to stop.

    Args:
        settings: The settings.
        more_options: Of `celery flower`, as on its command line.

    Raises:
        SettingsError: Flower is not installed, has no password, or can't be begun.
    """
    if settings.flower.password is None:
        raise SettingsError("Flower needs flower.password: whoever sees it can end jobs; set it.")
    try:
        from worker.queueing import flower  # noqa: PLC0415 - an extra that workers do without
    except ModuleNotFoundError as error:
        raise SettingsError(f"Flower is not installed ({error.name}): install the extra `flower`.") from None
    try:
        flower.run_flower(
            make_app(settings.broker.address),
            host=settings.flower.host,
            port=settings.flower.port,
            user=settings.flower.user,
            password=settings.flower.password.get_secret_value(),
            database=settings.flower.database,
            more_options=more_options,
        )
    except flower.FlowerError as error:
        raise SettingsError(str(error)) from None


class _InLoop:
    """Hands messages to the deliveries in the event loop."""

    def __init__(self, loop: LoopThread[Deliveries]) -> None:
        self._loop = loop
        self.call = loop.call

    def handle(self, document: Any, delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Wait for a message's fate; see `worker.queueing.tasks.Handler`."""
        return self._loop.run(self._loop.resource.handle(document, delivery_tag, stop, show))

    def handle_batch(self, document: Any, delivery_tag: str, stop: Stop, show: Show) -> Verdict:
        """Wait for a message's fate; see `worker.queueing.tasks.Handler`."""
        return self._loop.run(self._loop.resource.handle_batch(document, delivery_tag, stop, show))


def _celery_command(app: Celery, settings: Settings, options: Sequence[str]) -> click.Context:
    """Read the options of `celery worker`; they win over what the settings say."""
    command: click.Context = celery_worker.make_context(
        "worker",
        list(options),
        # Its banner is no log line.
        obj=CLIContext(app, no_color=False, workdir=None, quiet=True),
        default_map={
            "concurrency": settings.worker.jobs_at_once,
            "queues": f"{QUEUE},{BATCH_QUEUE}",
            "loglevel": settings.log.level,
        },
    )
    if command.get_parameter_source("pool") is ParameterSource.COMMANDLINE:
        # Our own: no other can be told to stop a job, and a forked child may not even start lanes.
        raise click.UsageError(
            "leave out -P and --pool, jobs run in a pool of ours; worker.jobs_at_once sets how many."
        )
    if command.params["detach"]:
        # It would begin anew as `celery worker`, which knows neither our task nor our lanes.
        raise click.UsageError("leave out -D and --detach; a service manager or compose runs it behind.")
    return command


@asynccontextmanager
async def _open_service(settings: Settings, pulse: Pulse) -> AsyncIterator[Deliveries]:
    """Open the deliveries, and tell beside them how the worker is.

    Raises:
        SettingsError: As `open_deliveries`, or the worker can't listen where health.host and .port say.
    """
    pool = connection_pool(settings.broker.address, connect_seconds=_PING_SECONDS)
    async with AsyncExitStack() as stack:
        deliveries = await stack.enter_async_context(open_deliveries(settings))
        turning = asyncio.create_task(pulse.turn(await stack.enter_async_context(Redis.from_pool(pool))))
        stack.callback(turning.cancel)
        if settings.health.port:
            try:
                await stack.enter_async_context(_serve_health(settings.health, pulse))
            except OSError as error:
                where = f"{settings.health.host}, port {settings.health.port}"
                # asyncio wraps the system's own words.
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise SettingsError(
                    f"The worker can't listen at {where}: {reason}; set health.host and health.port."
                ) from None
        yield deliveries


def _serve_health(health: HealthSettings, pulse: Pulse) -> AbstractAsyncContextManager[int]:
    metrics.tell(
        "hash_worker_consumer_silent_seconds",
        "Time since the consumer has last heard from the broker, or had no place for a message.",
        lambda: pulse.silent_seconds,
    )
    return serve_health(
        health.host,
        health.port,
        why_not_live=pulse.why_not_live,
        why_not_ready=pulse.why_not_ready,
        metrics=metrics.text,
    )
