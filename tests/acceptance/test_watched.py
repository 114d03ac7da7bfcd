"""What a worker tells those who watch it: health, metrics, and log lines that name their job."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess, free_port
from worker.queueing.app import BATCH_QUEUE, QUEUE, enqueue, make_app
from worker.queueing.pulse import STOPPED_STATUS

# A worker whose Celery thread hangs as soon as it is ready; the watchdog is in more of a hurry than usual.
_HANGS = """
import sys, time
from celery import signals
from worker.queueing import pulse
pulse._LOOK_SECONDS = 0.1
signals.worker_ready.connect(lambda **_: time.sleep(600), weak=False)
from worker.cli import main
sys.argv[1:] = ["run"]
main()
"""


@asynccontextmanager
async def worker_at(port: int, environment: dict[str, str], log_path: Path) -> AsyncIterator[ChildProcess]:
    """Run a worker that tells of itself at a port."""
    worker = ChildProcess(
        [sys.executable, "-m", "worker", "run"],
        env=environment | {"HASH_WORKER_HEALTH__PORT": str(port)},
        log_path=log_path,
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def asked(port: int, path: str) -> tuple[int, str]:
    """Ask for a page; status 0 where nobody listens."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def until_answered(port: int, path: str, status: int) -> str:
    """Ask until the answer has a status; the test's own time limit bounds it."""
    while (answer := await asked(port, path))[0] != status:  # noqa: ASYNC110 - as below
        await asyncio.sleep(0.05)
    return answer[1]


async def metrics_of(port: int) -> dict[tuple[str, ...], float]:
    """Read the metrics: name and labels to value."""
    _, text = await asked(port, "/metrics")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def run_job(platform: LocalPlatform, file_ids: list[str]) -> dict[str, Any]:
    """Run a job to its end; give its payload."""
    job_id, payload = platform.new_job(file_ids=file_ids)
    await asyncio.to_thread(enqueue, make_app(platform.broker_url), payload)
    while platform.job(job_id).status not in ENDED:  # noqa: ASYNC110 - other processes set no event of ours
        await asyncio.sleep(0.05)
    return payload


async def test_a_worker_counts_what_it_has_done_and_each_line_of_its_log_names_the_job(
    platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """A whole job of one file, one of two batches, and one whose file is not there."""
    (tmp_path / "files").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "files" / name).write_bytes(name.encode() * 1000)
    file_ids = await platform.add_path(tmp_path / "files")
    port, log_path = free_port(), tmp_path / "worker.log"
    async with worker_at(port, environment | {"HASH_WORKER_WORKER__BATCH_FILES": "2"}, log_path):
        await until_answered(port, "/health/ready", 200)
        for ids in (file_ids[:1], file_ids, ["404"]):
            await run_job(platform, ids)
        while (await metrics_of(port))["hash_worker_tasks_running",]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)

        counted = await metrics_of(port)
        live = await asked(port, "/health/live")

    assert live == (200, '{"is_well": true}')
    expected = {
        ("hash_worker_jobs_total", "COMPLETED"): 2,
        ("hash_worker_jobs_total", "FAILED"): 1,
        ("hash_worker_files_total", "hashed"): 4,
        ("hash_worker_files_total", "not_hashed"): 1,
        ("hash_worker_file_bytes_total", "hashed"): 4000,
        ("hash_worker_read_bytes_total",): 4000,
        ("hash_worker_reports_total", "refused"): 0,
        ("hash_worker_stage_seconds_count", "queue"): 3,
        ("hash_worker_stage_seconds_count", "plan"): 4,
        ("hash_worker_stage_seconds_count", "read"): 4,
        ("hash_worker_stage_seconds_count", "hash"): 4,
        ("hash_worker_outbox_reports",): 0,
        ("hash_worker_outbox_oldest_seconds",): 0,
        ("hash_worker_slots_free",): counted["hash_worker_slots",],
        ("hash_worker_lanes_busy",): 0,
        ("hash_worker_lane_deaths_total",): 0,
        ("hash_worker_lease_take_overs_total",): 0,
    }
    assert {name: counted[name] for name in expected} == expected
    log = log_path.read_text("utf-8")
    assert "(MainProcess)" not in log  # as Celery prints at its end
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "The worker was told to end"
    about_tasks = [line for line in lines if "ask " in line["event"]]
    # Celery's line at the beginning and at the end of each of six tasks, and ours.
    assert len(about_tasks) == 18
    assert {line["job_id"] for line in about_tasks} == {"1", "2", "3"}
    assert {line.get("batch") for line in about_tasks if line["job_id"] == "2"} == {None, 0, 1, 2}
    ends = [line for line in about_tasks if "received" not in line["event"]]
    assert [line["attempt"] for line in ends] == [1] * 12
    (planned,) = (line for line in lines if line["event"] == "Batches were added")
    assert (planned["job_id"], planned["batch"], planned["attempt"]) == ("2", 0, 1)


async def test_a_worker_whose_broker_goes_away_is_live_and_not_ready(
    platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """It waits for it; an orchestrator must not restart it for that."""
    port = free_port()
    async with worker_at(port, environment, tmp_path / "worker.log") as worker:
        await until_answered(port, "/health/ready", 200)
        await platform.broker.stop()

        reason = await until_answered(port, "/health/ready", 503)

        assert json.loads(reason)["error"] == "The broker does not answer."
        assert (await asked(port, "/health/live"))[0] == 200
        assert worker.pid


async def test_a_worker_whose_consumers_were_cancelled_is_live_and_not_ready(
    platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """It takes no message any more, and whoever wants so adds one again."""
    port = free_port()
    control = make_app(platform.broker_url).control
    async with worker_at(port, environment, tmp_path / "worker.log"):
        await until_answered(port, "/health/ready", 200)
        for queue in (QUEUE, BATCH_QUEUE):
            await asyncio.to_thread(control.cancel_consumer, queue)

        reason = await until_answered(port, "/health/ready", 503)

        assert "consumes from no queue" in json.loads(reason)["error"]
        assert (await asked(port, "/health/live"))[0] == 200


async def test_a_worker_that_has_stopped_to_take_messages_ends_itself(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """So whatever has started it starts another one; it says why."""
    log_path = tmp_path / "worker.log"
    worker = ChildProcess([sys.executable, "-c", _HANGS], env=environment, log_path=log_path)
    await worker.start()

    status = await worker.wait()

    assert status == STOPPED_STATUS
    assert "The worker's consumer has stopped." in log_path.read_text("utf-8")


async def test_a_port_that_is_taken_is_told_in_one_sentence(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Two workers on one machine need two ports."""
    port = free_port()
    async with worker_at(port, environment, tmp_path / "worker.log"):
        await until_answered(port, "/health/live", 200)

        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", "run"),
            env=environment | {"HASH_WORKER_HEALTH__PORT": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()

    assert second.returncode == 2
    place = f"127.0.0.1, port {port}"
    assert said.decode() == (
        f"hash-worker: The worker can't listen at {place}: Address already in use; "
        "set health.host and health.port.\n"
    )
