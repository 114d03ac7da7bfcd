"""The platforms and storages of a notebook, as its settings allow them."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from worker.bootstrap.platforms import ConfiguredPlatforms, make_routes
from worker.bootstrap.stores import ConfiguredStores
from worker.libsafe.client import open_http
from worker.libsafe.routes import Routes
from worker.notebook.background import Background, background
from worker.settings import Settings, load

_given: dict[str, Any] = {}
_open: "Connections | None" = None


@dataclass(frozen=True, slots=True)
class Connections:
    """What the requests of a notebook share while its settings stay the same.

    Args:
        background: The event loop that it is all open in.
        settings: As they were when it was opened.
        routes: From the addresses that the platform gives to those that are connected to.
        platforms: The jobs APIs.
        stores: The S3 storages.
    """

    background: Background
    settings: Settings
    routes: Routes
    platforms: ConfiguredPlatforms
    stores: ConfiguredStores


def configure(**sections: Any) -> None:
    """Set settings in this program, over the file and the variables; the next request is made with them.

        configure(
            api={"allowed_hosts": ["go.example.org"]},
            storages={"default": {"access_key": "…", "secret_key": getpass()}},
        )

    Args:
        sections: As in config/worker.toml. They take the place of all that was given before.

    Raises:
        SettingsError: One is unknown or impossible; then all stays as it was.
    """
    global _given  # noqa: PLW0603 - a notebook is one program with one set of settings
    load(**sections)
    _given = sections


def connections() -> Connections:
    """Give what is open for the settings that there are now, which are read each time.

    Raises:
        SettingsError: They can't be used.
    """
    global _open  # noqa: PLW0603 - as above
    settings = load(**_given)
    here = background()
    if _open is None or _open.settings != settings or _open.background is not here:
        _log_to_standard_error()
        _open = here.open(_opened(settings, here))
    return _open


@asynccontextmanager
async def _opened(settings: Settings, here: Background) -> AsyncIterator[Connections]:
    routes = make_routes(settings.api)
    async with (
        open_http(max_connections=settings.api.connections) as http,
        ConfiguredStores(settings) as stores,
    ):
        yield Connections(here, settings, routes, ConfiguredPlatforms(settings.api, routes, http), stores)


def _log_to_standard_error() -> None:
    """Keep log lines out of a program's output, and what its variables hold out of log lines."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
