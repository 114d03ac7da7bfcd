"""Logs: one shape for our lines and the libraries', and nothing secret in a traceback."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from worker.observability import configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Leave Python's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_our_lines_and_a_librarys_are_json_of_one_shape() -> None:
    """Whoever reads the log by machine needs one parser."""
    stream = io.StringIO()
    configure_logging("INFO", "auto", stream)
    structlog.get_logger("ours").info("A file was hashed", file_id="7")
    logging.getLogger("celery.app").warning("Connection lost after %s s", 5)

    ours, theirs = map(json.loads, stream.getvalue().splitlines())

    assert (ours["event"], ours["file_id"], ours["level"]) == ("A file was hashed", "7", "info")
    assert (theirs["event"], theirs["logger"]) == ("Connection lost after 5 s", "celery.app")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variable(log_format: str) -> None:
    """A local variable may hold a key."""
    stream = io.StringIO()
    configure_logging("INFO", log_format, stream)  # type: ignore[arg-type]  # the two literals
    key = "a-key-that-nobody-may-see"
    try:
        [][len(key)]
    except LookupError:
        structlog.get_logger("ours").exception("It failed")

    assert "IndexError" in stream.getvalue()
    assert key not in stream.getvalue()


def test_configuring_twice_does_not_double_lines() -> None:
    """The second call replaces the first."""
    stream = io.StringIO()
    for _ in range(2):
        configure_logging("INFO", "json", stream)
    structlog.get_logger("ours").info("Once")

    assert len(stream.getvalue().splitlines()) == 1
