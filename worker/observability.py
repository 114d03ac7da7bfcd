"""Logs: structlog for our lines and, through the same processors, for those of the libraries.

An event is a short fixed sentence and its data are keys. JSON in a container, coloured on a terminal.
Logs go to standard error: standard output belongs to results.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.dev import plain_traceback

LogFormat = Literal["auto", "console", "json"]

# botocore logs request headers at DEBUG, signatures included; asyncio and aiohttp only repeat what we say.
_QUIET_LIBRARIES = ("aiobotocore", "aiohttp", "asyncio", "botocore", "urllib3")

# A local variable may hold a key, so no traceback shows any.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logging(level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line of this process through structlog.

    Calling it twice replaces what the first call set up.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        log_format: `auto` means coloured on a terminal and JSON elsewhere.
        stream: Where lines go; standard error when it is missing.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: list[structlog.typing.Processor] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=plain_traceback)]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in _QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
