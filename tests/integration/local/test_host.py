"""A platform for other machines: under a name, at fixed ports, without a broker."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from worker.local import platform as platform_module
from worker.local import s3 as s3_module
from worker.local.errors import StartError
from worker.local.platform import LocalPlatform
from worker.local.processes import free_port

Children = Callable[[], set[int]]


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Give the ports of jobs API and S3; others than 8000 and 9000, which may be taken on this machine."""
    ports = free_port(), free_port()
    monkeypatch.setattr(platform_module, "_API_PORT", ports[0])
    monkeypatch.setattr(s3_module, "_PORT", ports[1])
    return ports


@pytest.fixture
def taken(ports: tuple[int, int]) -> Iterator[None]:
    """Have the port of the jobs API taken."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", ports[0]))  # noqa: S104 - as the platform does
        other.listen()
        yield


async def test_everything_is_found_under_the_name(
    tmp_path: Path, children: Children, ports: tuple[int, int]
) -> None:
    """Payload and storage name the host, and both servers answer there; no broker runs."""
    began = int(time.time())
    async with (
        LocalPlatform(tmp_path / "platform", host="localhost") as platform,
        aiohttp.ClientSession() as session,
    ):
        job_id, payload = platform.new_job()
        storage = platform.store.storage(platform.storage_id)
        async with session.get(f"{payload['api']['url']}/api/health") as answer:
            api_status = answer.status
        async with session.get(f"{storage.endpoint}/") as answer:
            buckets = await answer.text()
        running, s3_pid = children(), platform.s3.pid

    assert payload["api"]["url"] == f"http://localhost:{ports[0]}"
    assert storage.endpoint == f"http://localhost:{ports[1]}"
    assert api_status == 200
    assert f"<Name>{platform.bucket}</Name>" in buckets
    assert running == {s3_pid}
    # Since a broker elsewhere outlives this platform, and remembers jobs by their ids.
    assert int(job_id) >= began


async def test_a_port_that_is_taken_is_said(tmp_path: Path, children: Children, taken: None) -> None:
    """One sentence with the port, and nothing is left running."""
    with pytest.raises(
        StartError, match=r"^The jobs API can't listen at 0\.0\.0\.0, port \d+: Address already"
    ):
        await LocalPlatform(tmp_path / "platform", host="localhost").__aenter__()
