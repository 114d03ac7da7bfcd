"""`hash-worker run`, `enqueue` and `check` against a real broker, a real S3 server and a real jobs API."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from werkzeug.serving import make_ssl_devcert

from worker.local.models import ENDED
from worker.local.platform import LocalPlatform
from worker.local.processes import ChildProcess
from worker.queueing.app import enqueue, make_app


@pytest_asyncio.fixture
async def worker(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[ChildProcess]:
    """Run one worker process."""
    process = ChildProcess(
        [sys.executable, "-m", "worker", "run"], env=environment, log_path=tmp_path / "worker.log"
    )
    await process.start()
    yield process
    await process.stop()


async def until(is_true: Callable[[], bool]) -> None:
    """Wait for what other processes do; the test's own time limit bounds it."""
    while not is_true():  # noqa: ASYNC110 - other processes set no event of ours
        await asyncio.sleep(0.02)


async def end_of(platform: LocalPlatform, job_id: str, worker: ChildProcess) -> str:
    """Wait for a job's end, or for the worker's."""
    await until(lambda: platform.job(job_id).status in ENDED or worker.pid is None)
    assert worker.pid, worker.log_tail()
    return str(platform.job(job_id).status)


def children_of(pid: int) -> list[int]:
    """Find the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text("ascii").split()]


async def test_a_payload_that_is_enqueued_by_command_is_run_by_the_worker(
    platform: LocalPlatform,
    worker: ChildProcess,
    hash_worker: Any,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """From standard input over the broker to the hashes; no key is in any log on the way."""
    (tmp_path / "file.txt").write_bytes(b"abc")
    file_ids = await platform.add_path(tmp_path / "file.txt")
    job_id, payload = platform.new_job(file_ids=file_ids)

    told = await asyncio.to_thread(
        hash_worker, "enqueue", "-", "--json", env=environment, stdin=json.dumps(payload)
    )

    assert json.loads(told.stdout)["job_id"] == job_id
    assert await end_of(platform, job_id, worker) == "COMPLETED"
    assert platform.hashes(file_ids[0])["md5"] == "900150983cd24fb0d6963f7d28e17f72"
    await worker.stop()
    assert worker.exit_status == 0
    log = (tmp_path / "worker.log").read_text(encoding="utf-8")
    assert "The task is over" in log
    for key in (payload["api"]["key_user"], payload["api"]["key_root"], platform.broker_url.split("@")[0]):
        assert key not in log + told.stdout + told.stderr


async def test_a_faulty_payload_from_another_producer_fails_its_job(
    platform: LocalPlatform, worker: ChildProcess
) -> None:
    """What comes past `enqueue` is checked by the worker, and the user is told on the platform."""
    job_id, payload = platform.new_job()
    payload["function_data"]["files"]["ids"] = [None]

    await asyncio.to_thread(enqueue, make_app(platform.broker_url), payload)

    assert await end_of(platform, job_id, worker) == "FAILED"
    assert "function_data.files.ids[0]" in platform.messages(job_id)[0].message


async def test_a_message_without_sense_does_not_stop_the_worker(
    platform: LocalPlatform, worker: ChildProcess
) -> None:
    """The next job is run as if nothing had been."""
    app = make_app(platform.broker_url)
    job_id, payload = platform.new_job(file_ids=["1"])

    for nonsense in ({}, {"api": {"url": "file:///etc/passwd"}}, payload):
        await asyncio.to_thread(enqueue, app, nonsense)

    assert await end_of(platform, job_id, worker) == "FAILED"
    assert platform.messages(job_id)[-1].message.endswith("1 file not hashed: 1 no such file.")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
async def test_a_worker_that_is_killed_leaves_no_lane(worker: ChildProcess, platform: LocalPlatform) -> None:
    """Lanes end when their parent is gone, however it went."""
    job_id, payload = platform.new_job(file_ids=["1"])
    await asyncio.to_thread(enqueue, make_app(platform.broker_url), payload)
    await end_of(platform, job_id, worker)
    assert worker.pid
    lanes = children_of(worker.pid)
    os.kill(worker.pid, 9)
    await worker.wait()

    assert len(lanes) == os.cpu_count()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in lanes))


async def test_enqueue_tells_every_fault_of_a_payload_and_puts_nothing_on_the_queue(
    hash_worker: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    """Exit status 2 and a line for each fault, by its path in the document."""
    (tmp_path / "payload.json").write_text(
        '{"api": {"url": "ftp://x"}, "function_data": {}}', encoding="utf-8"
    )

    done = await asyncio.to_thread(hash_worker, "enqueue", tmp_path / "payload.json", env=environment)

    assert (done.returncode, done.stdout) == (2, "")
    for path in ("api.url", "api.key_user", "function_data.job"):
        assert f"  {path} " in done.stderr


async def test_enqueue_without_a_broker_says_so(hash_worker: Any, platform: LocalPlatform) -> None:
    """Exit status 1, one sentence, no traceback; nothing is pretended to be queued."""
    _, payload = platform.new_job()
    away = dict(os.environ) | {"HASH_WORKER_BROKER__URL": "redis://127.0.0.1:9/0"}

    done = await asyncio.to_thread(hash_worker, "enqueue", "-", env=away, stdin=json.dumps(payload))

    assert (done.returncode, done.stdout) == (1, "")
    assert "The broker did not take the payload" in done.stderr
    assert "Traceback" not in done.stderr


async def test_check_finds_everything_right(
    hash_worker: Any, platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """One line each, exit status 0; with a payload its key and storage are tried as well."""
    _, payload = platform.new_job()
    (tmp_path / "payload.json").write_text(json.dumps(payload), encoding="utf-8")

    done = await asyncio.to_thread(
        hash_worker, "check", "--payload", tmp_path / "payload.json", env=environment
    )

    assert done.returncode == 0, done.stdout
    host = platform.api_url.removeprefix("http://")
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "ok      settings",
        "ok      slots",
        "ok      broker",
        "ok      lanes",
        f"ok      S3 {platform.storage_id}",
        f"ok      API {host}",
        "ok      job 1",
    ]
    assert f"ok      API {host}: It answers by http (" in done.stdout


async def test_check_calls_unknown_what_it_could_not_ask(
    hash_worker: Any, platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """Without a bucket no credentials are tried, without a container no storage; that is not wrong either."""
    _, payload = platform.new_job(file_ids=["1"])
    del payload["function_data"]["container"]
    (tmp_path / "payload.json").write_text(json.dumps(payload), encoding="utf-8")
    storage = {"ACCESS_KEY": "a", "SECRET_KEY": "s", "ENDPOINT_URL": platform.s3_endpoint}
    second = {f"HASH_WORKER_STORAGES__2__{name}": value for name, value in storage.items()}

    done = await asyncio.to_thread(
        hash_worker, "check", "--json", "--payload", tmp_path / "payload.json", env=environment | second
    )

    assert done.returncode == 0, done.stdout
    assert {finding["part"]: finding["state"] for finding in json.loads(done.stdout)} == {
        "settings": "ok",
        "slots": "ok",
        "broker": "ok",
        "lanes": "ok",
        "S3 1": "ok",
        "S3 2": "unknown",
        f"API {platform.api_url.removeprefix('http://')}": "ok",
        "job 1": "unknown",
    }


async def test_check_takes_no_http_for_an_answer_where_the_certificate_is_wrong(
    hash_worker: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    """A worker would refuse that platform; a storage behind such a certificate is told likewise."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*make_ssl_devcert(str(tmp_path / "tls"), host="localhost"))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        storage = {"ACCESS_KEY": "a", "SECRET_KEY": "s", "ENDPOINT_URL": f"https://{host}"}
        variables = {f"HASH_WORKER_STORAGES__2__{name}": value for name, value in storage.items()}
        variables["HASH_WORKER_API__ALLOWED_HOSTS"] = json.dumps([host])

        done = await asyncio.to_thread(hash_worker, "check", "--json", env=environment | variables)

    wrong = wrong_parts(done.stdout)
    assert done.returncode == 1
    assert list(wrong) == ["S3 2", f"API {host}"]
    assert all("its certificate is not accepted" in detail for detail in wrong.values())


async def test_check_tries_a_payload_as_far_as_the_settings_allow(
    hash_worker: Any, platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """A template that can't be filled is wrong in the settings and for the job, and no traceback."""
    _, payload = platform.new_job()
    (tmp_path / "payload.json").write_text(json.dumps(payload), encoding="utf-8")
    settings = environment | {"HASH_WORKER_API__ROUTES": '{"job": "/api/job"}'}

    done = await asyncio.to_thread(
        hash_worker, "check", "--json", "--payload", tmp_path / "payload.json", env=settings
    )

    wrong = wrong_parts(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert list(wrong) == ["settings", "job 1"]
    assert all("api.routes: The template job lacks" in detail for detail in wrong.values())


async def test_check_names_an_algorithm_of_a_payload_that_nobody_knows(
    hash_worker: Any, platform: LocalPlatform, environment: dict[str, str], tmp_path: Path
) -> None:
    """The job would fail."""
    _, payload = platform.new_job()
    payload["function_params"] = {"algorithms": ["md6"]}
    (tmp_path / "payload.json").write_text(json.dumps(payload), encoding="utf-8")

    done = await asyncio.to_thread(
        hash_worker, "check", "--json", "--payload", tmp_path / "payload.json", env=environment
    )

    assert done.returncode == 1
    assert "md6" in wrong_parts(done.stdout)["job 1"]


async def test_check_tells_settings_that_cannot_be_read_as_findings(
    hash_worker: Any, environment: dict[str, str]
) -> None:
    """One for each fault, and exit status 1, as for all else that is wrong."""
    wrong = {"HASH_WORKER_GATEWAY__PORT": "65536", "HASH_WORKER_API__ALLOWED_HOSTS": '["https://go"]'}

    done = await asyncio.to_thread(hash_worker, "check", "--json", env=environment | wrong)

    findings = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert [(finding["part"], finding["state"]) for finding in findings] == [("settings", "wrong")] * 2
    assert [finding["detail"].split(": ")[0] for finding in findings] == ["api.allowed_hosts", "gateway.port"]


def wrong_parts(findings: str) -> dict[str, str]:
    """Give the details of what `check --json` found wrong."""
    return {
        finding["part"]: finding["detail"] for finding in json.loads(findings) if finding["state"] == "wrong"
    }


@pytest.mark.parametrize(
    ("variable", "value", "part", "told"),
    [
        ("HASH_WORKER_BROKER__URL", "redis://:wrong-password@{broker}/0", "broker", "refuses the password"),
        ("HASH_WORKER_BROKER__URL", "redis://127.0.0.1:9/0", "broker", "does not answer"),
        ("HASH_WORKER_STORAGES__1__ENDPOINT_URL", "http://127.0.0.1:9", "S3 1", "cannot be reached"),
        ("HASH_WORKER_STORAGES__1__BUCKET", "no-such-bucket", "S3 1", "There is no bucket"),
        ("HASH_WORKER_STORAGES__1__ENDPOINT_URL", "http://a_b:1", "S3 1", "a_b"),
        ("HASH_WORKER_API__ALLOWED_HOSTS", '["127.0.0.1:9"]', "API 127.0.0.1:9", "does not answer"),
        ("HASH_WORKER_HASHING__ALGORITHMS", '["md6"]', "settings", "hashing.algorithms: "),
    ],
)
async def test_check_names_what_is_wrong_and_shows_no_secret(
    hash_worker: Any,
    platform: LocalPlatform,
    environment: dict[str, str],
    variable: str,
    value: str,
    part: str,
    told: str,
) -> None:
    """Exit status 1; the other lines stay right."""
    broker = platform.broker_url.split("@")[1].split("/")[0]

    done = await asyncio.to_thread(
        hash_worker, "check", "--json", env=environment | {variable: value.format(broker=broker)}
    )

    wrong = wrong_parts(done.stdout)
    assert done.returncode == 1
    assert list(wrong) == [part]
    assert told in wrong[part]
    assert "wrong-password" not in done.stdout + done.stderr
    assert platform.s3_secret_key not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [("run",), ("hash", "-")])
async def test_a_wrong_setting_stops_the_worker_at_its_start(
    hash_worker: Any, environment: dict[str, str], command: tuple[str, ...]
) -> None:
    """Exit status 2 and a sentence that names the setting."""
    wrong = environment | {"HASH_WORKER_HASHING__ALGORITHMS": '["md6"]'}

    done = await asyncio.to_thread(hash_worker, *command, env=wrong)

    assert done.returncode == 2
    assert "hashing.algorithms" in done.stderr
    assert "md6" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--pool=prefork", "--no-such-option"])
async def test_a_wrong_option_of_celery_stops_the_worker_at_its_start(
    hash_worker: Any, environment: dict[str, str], option: str
) -> None:
    """Exit status 2 and a sentence that names the option."""
    done = await asyncio.to_thread(hash_worker, "run", option, env=environment)

    assert done.returncode == 2
    assert option.partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_worker_that_fails_says_so_by_its_exit_status(
    hash_worker: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    """Whoever started it has to know; here another process holds its pidfile (73 is EX_CANTCREAT)."""
    (tmp_path / "worker.pid").write_text(f"{os.getpid()}\n", encoding="ascii")

    done = await asyncio.to_thread(hash_worker, "run", "--pidfile=worker.pid", env=environment)

    assert done.returncode == 73
