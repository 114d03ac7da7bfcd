"""A local platform behind the test's process, as a cell starts it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.local.platform import LocalPlatform
from worker.notebook import start_local_platform
from worker.notebook.background import background
from worker.notebook.local_platform import RunningPlatform

OnPlatform = Callable[[Callable[[LocalPlatform], Any]], Any]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """Run one platform for all tests of a module, with three files."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.txt").write_bytes(b"abc")
    (folder / "b.bin").write_bytes(bytes(1_000_000))
    (folder / "empty").touch()
    with start_local_platform([folder]) as running:
        yield running


@pytest.fixture
def on_platform(platform: RunningPlatform) -> OnPlatform:
    """Do something with the platform itself, in the one thread that may."""

    async def do(what: Callable[[LocalPlatform], Any]) -> Any:
        return what(platform._platform)

    return lambda what: background().wait(do(what))


@pytest.fixture
def texts(on_platform: OnPlatform) -> Callable[[str], list[str]]:
    """Give the messages of a job."""
    return lambda job_id: [one.message for one in on_platform(lambda platform: platform.messages(job_id))]


@pytest.fixture
def status(on_platform: OnPlatform) -> Callable[[str], str]:
    """Give the status of a job."""
    return lambda job_id: str(on_platform(lambda platform: platform.job(job_id).status))


@pytest.fixture
def new_file(platform: RunningPlatform, on_platform: OnPlatform) -> Callable[..., str]:
    """Add a file's record without an object."""
    container_id = on_platform(lambda platform: platform.container_id)
    numbers = iter(range(1_000_000))

    def add(**fields: Any) -> str:
        path = f"/new/{next(numbers)}"
        added = on_platform(
            lambda platform: platform.store.add_file(container_id, path, size_bytes=3, **fields)
        )
        return str(added)

    return add
