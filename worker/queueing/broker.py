"""The broker as our own records use it: leases, outboxes and ends, beside Celery's queue."""

import asyncio
import random
from typing import Any

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# Each job has at most two calls under way, to put and to accept, besides the renewals.
_MOST_CONNECTIONS = 16
_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 15
# Between two attempts at a broker that is away, at most.
_PAUSE_SECONDS = 0.5


class _PatientRedis(Redis):
    """A client whose calls wait for a broker that is away, and are made again.

    redis-py could do both, but writes under `asyncio.wait_for`, which in Python 3.11 may swallow the
    cancellation of its task (https://github.com/python/cpython/issues/86296); so its own timeouts stay off.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, TimeoutError, OSError):
                await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 - jitter, no secret


def open_broker(url: str) -> Redis:
    """Open connections to the broker, for what is ours there; to be closed with ``async with``.

    A call waits for a broker that is away, for as long as it takes, since what it writes must not be lost. It
    may so be done twice.

    Args:
        url: Valkey or Redis with its password; with rediss:// the certificate is verified.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=None,
        decode_responses=True,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), retries=0),
    )
    return _PatientRedis.from_pool(pool)
