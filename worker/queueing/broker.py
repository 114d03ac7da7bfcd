"""The broker as our own records use it: leases, outboxes and ends, beside Celery's queue."""

import asyncio
import random
from typing import Any
from urllib.parse import urlsplit

import redis.exceptions
import structlog
from redis import Redis as SyncRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# Each job has at most two calls under way, to put and to accept, besides the renewals.
_MOST_CONNECTIONS = 16
_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 15
# Between two attempts at a broker that is away, at most.
_PAUSE_SECONDS = 0.5
_AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    TimeoutError,
    OSError,
)

_log = structlog.get_logger(__name__)


class _PatientRedis(Redis):
    """A client whose calls wait for a broker that is away, full or read-only, and are made again.

    redis-py could do so for one that is away, but writes under `asyncio.wait_for`, which in Python 3.11 may
    swallow the cancellation of its task (https://github.com/python/cpython/issues/86296); so its own timeouts
    stay off.
    """

    _is_waiting = False

    def __repr__(self) -> str:
        return "<Connections to the broker>"  # redis-py's own shows the password

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's
            except _AWAY as error:
                self._note(error)
            except redis.exceptions.ResponseError as error:
                # It could not write its data to disk, and writes none before it can.
                if not str(error).startswith("MISCONF"):
                    raise
                self._note(error)
            else:
                if self._is_waiting:
                    _log.info("The broker is back")
                    self._is_waiting = False
                return answer
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 - jitter, no secret

    def _note(self, error: Exception) -> None:
        if not self._is_waiting:
            _log.warning("The broker is waited for", reason=str(error) or type(error).__name__)
            self._is_waiting = True


class PasswordRefusedError(Exception):
    """The broker refuses the password, or wants one and there is none; the text says what to do.

    Args:
        url: As in `open_broker`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The broker at {broker_place(url)} refuses the password; correct broker.password, or broker.url."
        )


def broker_place(url: str) -> str:
    """Give host and port of a broker's URL, which are no secret."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def check_password(url: str) -> None:
    """Make sure that the broker does not refuse the password; one that is away may still do so later.

    Args:
        url: As in `open_broker`.

    Raises:
        PasswordRefusedError: It does.
    """
    client = SyncRedis.from_url(url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS)
    try:
        with client:
            client.ping()
    except redis.exceptions.AuthenticationError:
        raise PasswordRefusedError(url) from None
    except (redis.exceptions.RedisError, OSError):
        return


def open_broker(url: str) -> Redis:
    """Open connections to the broker, for what is ours there; to be closed with ``async with``.

    A call waits for a broker that is away or full, for as long as it takes, since what it writes must not be
    lost. It may so be done twice.

    Args:
        url: Valkey or Redis with its password; with rediss:// the certificate is verified.
    """
    return _PatientRedis.from_pool(connection_pool(url, connect_seconds=_CONNECT_SECONDS))


def connection_pool(url: str, *, connect_seconds: float) -> BlockingConnectionPool:
    """Make a pool of connections that try once; its answers are decoded.

    Args:
        url: As in `open_broker`.
        connect_seconds: For one connection to be made.
    """
    return BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=None,
        decode_responses=True,
        socket_connect_timeout=connect_seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), retries=0),
    )
