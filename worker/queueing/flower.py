"""Flower over our application, with its settings from ours and a password always."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import structlog
from celery import Celery
from flower import command, urls
from flower.app import Flower
from tornado.options import Error, options

# Job and files, then how far they are; the name says only which of two tasks it is.
_COLUMNS = "args,name,state,result,received,runtime,worker,uuid"
_LAST_PORT = 65535
# Its own 100,000 take 744 MiB; see Sizing in docs/operations.md.
_MOST_TASKS = 10_000
# Nothing is answered while it saves, about a second for so many.
_SAVE_MILLISECONDS = 5 * 60_000

_log = structlog.get_logger(__name__)


class FlowerError(Exception):
    """Flower can't be begun; the text says why and what to do."""


def run_flower(
    app: Celery,
    *,
    host: str,
    port: int,
    user: str,
    password: str,
    database: Path | None,
    more_options: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or Ctrl-C; then the process ends with status 0.

    Args:
        app: Of `make_app`.
        host: Address to listen at.
        port: As above.
        user: Who may look, by HTTP basic authentication.
        password: As above.
        database: What it has seen is kept there; None: nowhere.
        more_options: Of `celery flower`, as on its command line; they win.

    Raises:
        FlowerError: An option is wrong, or it can't listen there.
    """
    options.address = host
    options.port = port
    options.basic_auth = [f"{user}:{password}"]
    options.tasks_columns = _COLUMNS
    options.max_tasks = _MOST_TASKS
    if database is not None:
        options.persistent = True
        options.db = str(database)
        options.state_save_interval = _SAVE_MILLISECONDS
    _apply(more_options)
    command.extract_settings()
    command.setup_logging()
    flower = Flower(capp=app, options=options, **urls.settings)
    signal.signal(signal.SIGTERM, _leave)
    try:
        bound_port = flower.start_http_server()
    except OSError as error:
        where = f"{options.address}, port {options.port}"
        reason = f"Flower can't listen at {where}: {error.strerror}; set flower.host and flower.port."
        raise FlowerError(reason) from None
    _log.info("Flower listens", host=options.address, port=bound_port)
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        flower.stop()
        # Its threads may wait for a broker that is away, and Python would wait for them.
        logging.shutdown()
        os._exit(0)


def _apply(more_options: Sequence[str]) -> None:
    """Read options; Flower itself passes over what it does not know."""
    unknown = [option for option in more_options if not command.is_flower_option(option)]
    if unknown:
        raise FlowerError(f"Wrong option of celery flower: it knows no {unknown[0]}.")
    try:
        command.apply_options("flower", more_options)
    except (Error, ValueError) as error:
        raise FlowerError(f"Wrong option of celery flower: {error}.") from None
    if not 1 <= options.port <= _LAST_PORT:
        # It would listen at another, since only the last 16 bits count.
        raise FlowerError(f"Wrong option of celery flower: --port is 1 to {_LAST_PORT}.")


def _leave(*_: Any) -> NoReturn:
    sys.exit(0)
