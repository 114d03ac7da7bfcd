"""The platform on this machine, from a cell."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

from worker.local.platform import LocalPlatform
from worker.local.sample import make_sample
from worker.local.worker_config import worker_environment
from worker.notebook.background import background
from worker.notebook.errors import NotebookError

_before: dict[Path, dict[str, str]] = {}
"""This program's environment before each platform that runs, by its folder, in the order of their starts."""


def start_local_platform(paths: str | Path | Iterable[str | Path] = ()) -> "RunningPlatform":
    """Start the platform of `hash-worker local` behind this program: broker, S3 server, jobs API.

    Until it is stopped, this program and what it starts have the settings of a worker for that platform. The
    program's end stops it too; nothing stays.

    Args:
        paths: Files and folders to put on it, or one of them; `~` is your home. None of them puts a sample of
            six files there.

    Raises:
        LocalError: A part did not start, or is not installed: it needs this package's extra `local`.
    """
    return RunningPlatform([Path(path).expanduser() for path in _texts(paths)])


class RunningPlatform:
    """A local platform that runs; a context manager that stops it.

    Attributes:
        api_url: The jobs API's address.
        file_ids: Of the files that it was started with.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = AsyncExitStack()
        self._is_stopped = False
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
        self,
        *,
        file_ids: str | int | Iterable[str | int] = (),
        paths: str | PurePath | Iterable[str | PurePath] = (),
        **parameters: Any,
    ) -> dict[str, Any]:
        """Make a new job and give its payload, which holds keys to this platform.

        Args:
            file_ids: The job's files, or one; with no paths either, it is about all files that there are.
            paths: The job's files by their paths, or one.
            parameters: The payload's `function_params`, like `algorithms=["md5"]`.

        Raises:
            NotebookError: The platform was stopped.
        """
        self._check_running()
        return self._background.wait(self._payload(_texts(file_ids), _texts(paths), parameters))

    def add(self, path: str | Path) -> list[str]:
        """Put a file, or all files of a folder, on the platform and give their ids.

        Raises:
            LocalError: There is no such file, or it can't be read.
            NotebookError: The platform was stopped.
        """
        self._check_running()
        return self._background.wait(self._platform.add_path(Path(path).expanduser()))

    def stop(self) -> None:
        """End everything and give the settings back as they were; twice is fine.

        Where a platform was started later and still runs, its settings stay until it is stopped.
        """
        self._is_stopped = True
        self._background.wait(self._stack.aclose())

    def _check_running(self) -> None:
        if self._is_stopped:
            raise NotebookError("This local platform was stopped: start another by start_local_platform().")

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


def _texts(given: str | int | PurePath | Iterable[object]) -> list[str]:
    """Give each as text; one by itself is one, though a text's characters could be gone through."""
    return [str(given)] if isinstance(given, str | int | PurePath) else [str(each) for each in given]


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
