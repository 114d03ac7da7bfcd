"""Payloads that name other hosts than the platform's own."""

import pytest
from aiohttp import web

from tests.support.fault_scenario import Scenario
from tests.support.fault_stand import MiB

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "http://[fe80::1]",
        "file:///etc/passwd",
        "gopher://127.0.0.1",
        "http://{listed}@{stranger}",
        "http://{stranger}",
        "http://{stranger}/#{listed}",
        "http://localhost:{stranger_port}",
    ],
)
async def test_a_payload_that_names_another_host_sends_it_nothing(scenario: Scenario, url: str) -> None:
    """No key, no request at all; the message is kept as a dead letter."""
    seen: list[str] = []

    async def note(request: web.BaseRequest) -> web.Response:
        seen.append(f"{request.method} {request.path}")
        return web.Response()

    runner = web.ServerRunner(web.Server(note, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    await scenario.worker()
    job = await scenario.new_job(MiB, end=None)
    listed = scenario.stand.api.url.removeprefix("http://")
    job.payload["api"]["url"] = url.format(listed=listed, stranger=f"127.0.0.1:{port}", stranger_port=port)

    scenario.stand.faults["another host"] += 1
    await scenario.enqueue(job)
    await scenario.run(1)

    await scenario.judged()
    await runner.cleanup()
    assert not seen
    assert scenario.status(job) == "PENDING"
    assert len(await scenario.dead_letters()) == 1
