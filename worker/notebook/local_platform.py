"""The platform on this machine, from a cell."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.local.platform import LocalPlatform
from worker.local.sample import make_sample
from worker.local.worker_config import worker_environment
from worker.notebook.background import background

_before: dict[Path, dict[str, str]] = {}
"""This program's environment before each platform that runs, by its folder, in the order of their starts."""


def start_local_platform(paths: Sequence[str | Path] = ()) -> "RunningPlatform":
    """Start the platform of `hash-worker local` behind this program: broker, S3 server, jobs API.

    Until it is stopped, this program and what it starts have the settings of a worker for that platform. The
    program's end stops it too; nothing stays.

    Args:
        paths: Files and folders to put on it; none of them puts a sample of six files there.

    Raises:
        LocalError: A part did not start, or is not installed: it needs this package's extra `local`.
    """
    return RunningPlatform([Path(path).expanduser() for path in paths])


class RunningPlatform:
    """A local platform that runs; a context manager that stops it.

    Attributes:
        api_url: The jobs API's address.
        file_ids: Of the files that it was started with.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = AsyncExitStack()
        self._background = background()
        self._background.open(self._stack)
        running = self._stack.enter_async_context(_running(paths))
        self._platform, self.file_ids = self._background.wait(running)
        self.api_url = self._platform.api_url

    def __repr__(self) -> str:
        return f"<RunningPlatform at {self.api_url}, {len(self.file_ids)} files>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def payload(
        self, *, file_ids: Sequence[str] = (), paths: Sequence[str] = (), **parameters: Any
    ) -> dict[str, Any]:
        """Make a new job and give its payload, which holds keys to this platform.

        Args:
            file_ids: The job's files; with no paths either, it is about all files that there are.
            paths: The job's files by their paths.
            parameters: The payload's `function_params`, like `algorithms=["md5"]`.
        """
        return self._background.wait(self._payload(file_ids, paths, parameters))

    def add(self, path: str | Path) -> list[str]:
        """Put a file, or all files of a folder, on the platform and give their ids."""
        return self._background.wait(self._platform.add_path(Path(path).expanduser()))

    def stop(self) -> None:
        """End everything and give the settings back as they were; twice is fine.

        Where a platform was started later and still runs, its settings stay until it is stopped.
        """
        self._background.wait(self._stack.aclose())

    async def _payload(
        self, file_ids: Sequence[str], paths: Sequence[str], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        _, payload = self._platform.new_job(file_ids=file_ids, paths=paths, function_params=parameters)
        return payload


@asynccontextmanager
async def _running(paths: Sequence[Path]) -> AsyncIterator[tuple[LocalPlatform, list[str]]]:
    # No TemporaryDirectory, which would be removed at the end of a process that was forked from this one too.
    directory = Path(tempfile.mkdtemp(prefix="hash-worker-"))
    try:
        async with LocalPlatform(directory / "platform") as platform:
            file_ids = await platform.add_paths(paths or [make_sample(directory)])
            _before[directory] = dict(os.environ)
            try:
                _set_environment(worker_environment(platform, directory, os.environ))
                yield platform, file_ids
            finally:
                _leave_environment(directory)
    finally:
        shutil.rmtree(directory)


def _leave_environment(directory: Path) -> None:
    later = list(_before)[list(_before).index(directory) + 1 :]
    environment = _before.pop(directory)
    if later:
        _before[later[0]] = environment
    else:
        _set_environment(environment)


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
