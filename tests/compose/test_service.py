"""The service at work: many workers, whatever becomes of them, an upgrade, and what can be watched."""

import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose_project import ROOT, Project, docker, project_of, wait_until

MiB = 1024 * 1024
FILES = 120
ALGORITHMS = ("md5", "sha1", "sha256", "sha512", "sha3-512", "blake2b")
WORKERS = 3


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Give the bytes of each file of the platform: 240 MiB, each file another and of another length."""
    pattern = bytes(range(251)) * (2 * MiB // 251)
    return {f"file-{number:03}.bin": pattern[number:] for number in range(FILES)}


@pytest.fixture(scope="module")
def project(
    images: Path, tag: str, contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """Have three workers running, for a platform with these files."""
    files = tmp_path_factory.mktemp("files")
    files.chmod(0o755)
    for name, content in contents.items():
        (files / name).write_bytes(content)
    override = Path(__file__).with_name("override.yml")
    with project_of(images, {"TAG": tag, "FILES": str(files)}, [override]) as project:
        project.up("--scale", f"worker={WORKERS}")
        yield project
    docker("rmi", f"hash-worker:{tag}-next")


@pytest.fixture(scope="module")
def digests(contents: dict[str, bytes]) -> Counter[str]:
    """Give what a job over all files has to tell, each digest as often as a file has it."""
    return Counter(
        f"{algorithm} {hashlib.new(algorithm.replace('-', '_'), content).hexdigest()}"
        for content in contents.values()
        for algorithm in ALGORITHMS
    )


@pytest.fixture
def judge(digests: Counter[str]) -> Any:
    """Judge a job's end: COMPLETED, and each digest of each file is told once and right."""

    def judged(result: Any) -> None:
        told = (
            re.fullmatch(r"File hash calculated: (\S+) +- ([0-9a-f]+)", message["text"])
            for message in result["messages"]
        )
        assert result["job"]["status"] == "COMPLETED"
        assert Counter(f"{one[1].lower()} {one[2]}" for one in told if one) == digests

    return judged


def hashed_files(container: str) -> float:
    """Read from a worker's metrics how many files it has hashed."""
    look = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
    return sample(
        docker("exec", container, "python", "-c", look).stdout, 'hash_worker_files_total{result="hashed"}'
    )


def sample(text: str, name: str) -> float:
    """Read one value out of metrics."""
    [value] = [line.removeprefix(name) for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(value)


def begin(project: Project) -> Any:
    """Begin a job over all files, and wait until it is in its middle."""
    trial = project.try_("--algorithms", ",".join(ALGORITHMS))
    trial.wait_for_the_middle()
    return trial


def test_a_job_is_spread_over_all_workers_and_metrics_count_it(project: Project, judge: Any) -> None:
    """Each worker hashes some of the files, together all; the gateway counts who handed it in."""
    trial = project.try_("--algorithms", ",".join(ALGORITHMS))
    judge(trial.result())

    shares = [hashed_files(container) for container in project.ids("worker")]
    gateway = project.ask_gateway("/metrics")
    assert len(shares) == WORKERS
    assert min(shares) > 0
    assert sum(shares) == FILES
    handed_in = 'hash_worker_gateway_requests_total{method="POST",route="/v1/jobs",status="202"}'
    assert sample(gateway, handed_in) == 1


def test_workers_stopped_in_mid_job_and_started_again_lose_nothing(project: Project, judge: Any) -> None:
    """`docker compose stop worker` gives the work back, and `up` goes on with it."""
    trial = begin(project)

    project.compose("stop", "worker")
    trial.must_go_on()
    assert project.ids("worker") == []
    project.up("--scale", f"worker={WORKERS}")

    judge(trial.result())


def test_a_killed_worker_loses_nothing(project: Project, judge: Any) -> None:
    """What it had in hand is taken over by the others."""
    trial = begin(project)

    docker("kill", "-s", "KILL", project.ids("worker")[0])
    trial.must_go_on()

    judge(trial.result())
    assert len(project.ids("worker")) == WORKERS - 1
    project.up("--scale", f"worker={WORKERS}")


def test_a_broker_restarted_in_mid_job_loses_nothing(project: Project, judge: Any) -> None:
    """Queue, ledger and outbox are on its volume, and the workers find it again."""
    trial = begin(project)

    project.compose("restart", "valkey")
    trial.must_go_on()

    judge(trial.result())


def test_a_killed_broker_loses_nothing(project: Project, judge: Any) -> None:
    """Its log is written as it goes, so a death of the process costs nothing either."""
    trial = begin(project)

    docker("kill", "-s", "KILL", project.ids("valkey")[0])
    trial.must_go_on()
    project.compose("start", "valkey")

    judge(trial.result())


def test_an_upgrade_in_mid_job_loses_nothing(project: Project, judge: Any, tag: str) -> None:
    """A new image and `up -d`: each container is replaced, and the job goes on in the new ones."""
    before = set(project.ids("worker") + project.ids("gateway"))
    project.set("TAG", f"{tag}-next")
    project.compose("build", "worker")
    trial = begin(project)

    project.up("--no-deps", "--scale", f"worker={WORKERS}", "worker", "gateway")

    judge(trial.result())
    assert sum(hashed_files(container) for container in project.ids("worker")) > 0
    after = project.ids("worker") + project.ids("gateway")
    versions = {
        docker("inspect", "-f", '{{index .Config.Labels "org.opencontainers.image.version"}}', one).stdout
        for one in after
    }
    assert len(after) == WORKERS + 1
    assert before.isdisjoint(after)
    assert versions == {f"{tag}-next\n"}


def test_flower_shows_workers_and_tasks_and_no_key(project: Project, judge: Any, tmp_path: Path) -> None:
    """In a browser: who works, which job is done, and nothing that opens anything."""
    trial = project.try_("--algorithms", ",".join(ALGORITHMS))
    judge(trial.result())
    task_id = json.loads(project.ask_gateway(f"/v1/jobs/{trial.job_id}"))["task_id"]

    workers = browse(project, tmp_path, "/workers", "--dump-dom")
    tasks = browse(project, tmp_path, "/tasks", "--dump-dom")
    task = browse(project, tmp_path, f"/task/{task_id}", "--dump-dom")
    pictures = {name: ROOT / "build" / f"flower-{name}.png" for name in ("workers", "tasks")}
    for name, picture in pictures.items():
        picture.parent.mkdir(exist_ok=True)
        browse(project, tmp_path, f"/{name}", f"--screenshot={picture}")

    assert all(f"celery@{container}" in workers for container in project.ids("worker"))
    assert f"job {trial.job_id}: batch " in tasks
    assert f"job {trial.job_id}: {FILES} files" in task
    assert "SUCCESS" in task
    assert not [key for key in project.payload_keys() if key in workers + tasks + task]
    assert all(picture.stat().st_size > 10_000 for picture in pictures.values())


def test_flower_remembers_what_was_done_over_a_restart(project: Project) -> None:
    """Its volume keeps the tasks."""
    [task_id, *_] = json.loads(project.ask_flower("/api/tasks?limit=1"))

    project.compose("restart", "flower")

    wait_until("Flower knows the task", lambda: "SUCCESS" in project.ask_flower(f"/api/task/info/{task_id}"))


def commands_after(sentence: str) -> str:
    """Give the commands that stand in docs/operations.md after a sentence."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    block = re.search(r"\n\n((?: {4}.*\n)+)", page[page.index(sentence) :])
    assert block
    return block[1]


def test_a_copy_of_the_broker_made_while_it_runs_brings_everything_back(project: Project) -> None:
    """By the documented commands, into an empty volume: how a job ended is known again."""
    trial = project.try_()
    trial.result()

    project.shell(commands_after("A copy while it runs:"))
    project.keep_logs()
    project.compose("rm", "-sf", "valkey")
    docker("volume", "rm", f"{project.name}_valkey")
    project.shell(commands_after("it comes back by"))
    project.up("--scale", f"worker={WORKERS}")

    assert json.loads(project.ask_gateway(f"/v1/jobs/{trial.job_id}"))["state"] == "COMPLETED"


def browse(project: Project, directory: Path, page: str, what: str) -> str:
    """Open a page of Flower in a browser without a window, and give what that prints."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("This test looks at Flower's pages, and there is no chromium: install it.")
    host = project.url("flower", 5555).removeprefix("http://")
    options = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size=1800,1050"
    return subprocess.run(
        [
            chromium,
            *options.split(),
            "--virtual-time-budget=6000",
            f"--user-data-dir={directory / 'chromium'}",
            what,
            f"http://operator:{project.secret('flower_password')}@{host}{page}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_no_log_line_of_it_all_holds_a_key_or_a_traceback(project: Project) -> None:
    """Of everything that was done to the service, its logs tell without keys, and in sentences."""
    project.keep_logs()

    assert '"The task is over"' in project.logs
    assert not [key for key in project.payload_keys() if key in project.logs]
    assert "Traceback" not in project.logs
