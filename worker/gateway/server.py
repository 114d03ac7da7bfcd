"""The gateway's connections: where it listens, how many there may be, and how long they may be idle."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import web

from worker.gateway.answers import RefusedError, refusal
from worker.gateway.application import make_application
from worker.gateway.gateway import Gateway
from worker.gateway.metrics import Metrics
from worker.health import FewConnection, listen
from worker.queueing.intake import open_intake
from worker.settings import GatewaySettings, Settings, SettingsError

_READ_BYTES = 64 * 1024
# Also for the headers of a request, and for the next one.
_IDLE_SECONDS = 30
# The rest of a body that was refused is read for so long, since a client that still sends reads no answer.
_LINGER_SECONDS = 5
# For requests that are under way when the gateway ends.
_END_SECONDS = 5


async def run_gateway(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve until this task is cancelled.

    Args:
        settings: The settings.
        on_ready: Is given the URL as soon as requests are answered.

    Raises:
        SettingsError: It has no token and is to listen to other machines, or it can't listen there.
    """
    async with open_gateway(settings) as url:
        on_ready(url)
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[str]:
    """Serve while the block runs; the broker need not be there.

    Yields:
        The URL.

    Raises:
        SettingsError: As `run_gateway`.
    """
    _check_token(settings.gateway)
    metrics = Metrics()
    async with open_intake(settings.broker.address) as intake:
        gateway = Gateway(
            intake, metrics, allowed_hosts=settings.api.allowed_hosts, token=settings.gateway.token
        )
        runner = web.AppRunner(make_application(gateway, metrics), shutdown_timeout=_END_SECONDS)
        await runner.setup()
        try:
            listener = await _listen(runner, settings.gateway)
            try:
                yield _url(listener)
            finally:
                listener.close()
        finally:
            await runner.cleanup()


class _Connection(FewConnection):
    """A connection that is one of few, and whose errors before any route tell no version either."""

    # Each may hold twice _READ_BYTES, and its headers.
    most = 256

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # aiohttp's signature
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,  # noqa: ARG002  # as above
        message: str | None = None,  # noqa: ARG002  # as above
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and log nothing: it may hold a token, and anybody can send it."""
        reason = "This is no request that can be read."
        # An empty banner, since aiohttp would add its own.
        error = RefusedError(HTTPStatus(status), reason, headers={"Server": ""})
        answer = refusal(error)
        answer.force_close()
        return answer


async def _listen(runner: web.AppRunner, gateway: GatewaySettings) -> asyncio.Server:
    try:
        return await listen(
            runner,
            _Connection,
            gateway.host,
            gateway.port,
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            read_bufsize=_READ_BYTES,
        )
    except OSError as error:
        where = f"{gateway.host}, port {gateway.port}"
        if error.errno == errno.EADDRINUSE:
            reason = f"The gateway can't listen at {where}: another program does; set gateway.port."
        else:
            reason = (
                f"The gateway can't listen at {where}: {error.strerror}; set gateway.host and gateway.port."
            )
        raise SettingsError(reason) from None


def _check_token(gateway: GatewaySettings) -> None:
    if gateway.token is None and not _is_loopback(gateway.host):
        raise SettingsError(
            f"The gateway needs gateway.token to listen at {gateway.host}: without it, other machines "
            "could have jobs run; set it, or listen at 127.0.0.1."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(listener: asyncio.Server) -> str:
    host, port, *_ = listener.sockets[0].getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
