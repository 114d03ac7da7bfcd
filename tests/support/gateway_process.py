"""`hash-worker gateway` as a process."""

import re
import sys
from pathlib import Path

from tests.support.gateway_caller import TOKEN
from worker.local.processes import ChildProcess


class GatewayProcess:
    """A gateway with a token on a free port.

    Args:
        environment: Of its settings.
        log_path: Where its output goes.

    Attributes:
        url: Where it is, once it is started.
        child: The process.
    """

    def __init__(self, environment: dict[str, str], log_path: Path) -> None:
        settings = {"HASH_WORKER_GATEWAY__TOKEN": TOKEN, "HASH_WORKER_GATEWAY__PORT": "0"}
        self._log_path = log_path
        self.child = ChildProcess(
            [sys.executable, "-m", "worker", "gateway"], env=environment | settings, log_path=log_path
        )
        self.url = ""

    async def start(self) -> None:
        """Start it and wait until it tells where it is."""
        await self.child.start(self._has_told)

    def log(self) -> str:
        """Read all that it has said."""
        return self._log_path.read_text(encoding="utf-8")

    async def _has_told(self) -> bool:
        told = re.search(r"The gateway is at (\S+)\n", self.log())
        self.url = told[1] if told else ""
        return bool(told)
