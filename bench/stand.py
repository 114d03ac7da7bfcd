"""What all contenders of a run share: the objects, the server, the platform."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.cases import WARM_UP, Case, make_files
from bench.lines import LineProcess
from bench.server import BUCKET, Server, serving

BUILD = Path("build")
_DATA = BUILD / "bench-data"
OBJECTS = _DATA / BUCKET
"""The objects' files, made once."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What all contenders of a run share.

    Args:
        server: Where the objects are.
        platform: The jobs API with its broker; see `platform_process`.
        broker_url: Of that broker.
        api_url: Of that API.
        directory: For logs.
    """

    server: Server
    platform: LineProcess
    broker_url: str
    api_url: str
    directory: Path

    def new_payload(self, case: Case) -> Any:
        """Make a job over a case's objects and give its payload."""
        files = [(key, case.object_bytes) for key in case.keys]
        return self.platform.ask({"files": files, "algorithms": case.algorithms})


@contextmanager
def stand() -> Iterator[Stand]:
    """Start what the contenders share. The objects' files are made before: moto takes what is there."""
    make_files(OBJECTS, WARM_UP)
    with TemporaryDirectory(prefix="hash-worker-bench-") as folder:
        directory = Path(folder)
        with (
            serving(_DATA, directory) as server,
            LineProcess(
                "bench.platform_process",
                server.endpoint_url,
                folder,
                log_path=directory / "platform.log",
            ) as platform,
        ):
            yield Stand(server=server, platform=platform, directory=directory, **platform.ask("urls"))


@contextmanager
def made_up_stand() -> Iterator[Stand]:
    """Start a platform that makes its records up, with a broker; there are no objects."""
    with TemporaryDirectory(prefix="hash-worker-bench-") as folder:
        directory = Path(folder)
        with LineProcess("bench.made_up_platform", folder, log_path=directory / "platform.log") as platform:
            nobody = Server("none", "http://127.0.0.1:9", 0)
            yield Stand(server=nobody, platform=platform, directory=directory, **platform.ask("urls"))
