"""A fresh clone: the documented commands from there to COMPLETED, and what is said where they fail."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.support.compose_project import SECRETS, Project, docker, gone, wait_until
from worker.local.sample import make_sample

PROGRAMS = ("worker", "gateway", "flower", "platform")


@pytest.fixture(scope="module")
def running(project: Project) -> Project:
    """Have the whole system running."""
    project.up()
    return project


def test_the_documented_command_prints_the_digests_and_completed(running: Project, tmp_path: Path) -> None:
    """One command runs a job from end to end; the digests are those of the sample's bytes."""
    sample = [path.read_bytes() for path in make_sample(tmp_path).iterdir()]

    said = running.compose("exec", "-T", "platform", "hash-worker", "try")
    again = running.inside("platform", "hash-worker", "try")

    assert re.search(r"\nJob [0-9]+: COMPLETED\n$", said)
    assert all(f"sha256    {hashlib.sha256(content).hexdigest()}\n" in said for content in sample)
    assert again.returncode == 0
    assert re.search(r"\nJob [0-9]+: COMPLETED\n$", again.stdout)


def test_a_platform_that_was_made_anew_has_jobs_of_its_own(running: Project) -> None:
    """It forgets all when it ends, and the broker remembers its jobs: none may have an id twice."""
    running.compose("up", "-d", "--force-recreate", "--no-deps", "--wait", "platform")

    again = running.inside("platform", "hash-worker", "try")

    assert again.stdout.endswith(": COMPLETED\n")


def test_check_is_content_in_the_workers_container(running: Project) -> None:
    """Settings, secrets and names of the compose file fit together."""
    checked = running.inside("worker", "hash-worker", "check")

    assert checked.returncode == 0, checked.stdout
    assert "ok      broker: valkey:6379 answers." in checked.stdout
    assert "ok      API platform:8000" in checked.stdout


@pytest.mark.parametrize("service", PROGRAMS)
def test_a_container_can_change_nothing_and_is_nobody(running: Project, service: str) -> None:
    """No root, no capability, no way to get any, and a root file system that can't be written to."""
    [of_container] = json.loads(docker("inspect", running.ids(service)[0]).stdout)

    ids = running.inside(service, "id", "-u")
    status = running.inside(service, "grep", "-E", "^(CapEff|CapBnd|NoNewPrivs):", "/proc/self/status")
    written = running.inside(service, "touch", "/opt/hash-worker/file")

    assert ids.stdout == "10001\n"
    assert status.stdout.split()[1::2] == ["0" * 16, "0" * 16, "1"]
    assert "Read-only file system" in written.stderr
    assert of_container["HostConfig"]["ReadonlyRootfs"]


@pytest.mark.parametrize("service", PROGRAMS)
def test_an_image_holds_what_runs_and_no_tools(running: Project, service: str) -> None:
    """No compiler, no pip of ours, nothing that pip keeps; but bytecode, since none can be written."""
    found = running.inside(
        service,
        "sh",
        "-c",
        "for tool in gcc cc g++ make git; do command -v $tool; done;"
        " find / -xdev -path '*/pip/http*' -o -path '/opt/*/site-packages/pip' 2>/dev/null",
    )
    compiled = running.inside(
        service,
        "python",
        "-c",
        "import email, worker.settings as ours; print(email.__cached__, ours.__cached__)",
    )
    there = running.inside(service, "ls", *compiled.stdout.split())

    assert found.stdout == ""
    assert len(there.stdout.splitlines()) == 2, there.stderr


def test_secrets_stand_in_no_process_list_description_or_log(running: Project) -> None:
    """Whoever may look at containers, but not into them, learns no secret and no key of a payload."""
    hidden = [running.secret(name) for name in SECRETS] + running.payload_keys()
    running.keep_logs()
    seen = running.logs
    for one in running.containers():
        seen += docker("inspect", one["ID"]).stdout + docker("top", one["ID"], "axeww").stdout

    assert "The task is over" in seen
    assert "requirepass" in seen
    assert not [secret for secret in hidden if secret in seen]


def test_only_gateway_and_flower_are_published_and_on_loopback(running: Project) -> None:
    """The broker, above all, can be reached by nobody else."""
    published = {
        (one["Service"], port["URL"])
        for one in running.containers()
        for port in one["Publishers"]
        if port["PublishedPort"]
    }

    assert published == {("gateway", "127.0.0.1"), ("flower", "127.0.0.1")}


@pytest.mark.parametrize("service", ["worker", "gateway", "flower"])
def test_a_wrong_password_of_the_broker_is_one_line_and_the_end(running: Project, service: str) -> None:
    """The line names the broker and the setting; Compose starts the service again until it is right."""
    wrong = "HASH_WORKER_BROKER__PASSWORD_FILE=/etc/hostname"
    container = running.compose("run", "-d", "--no-deps", "-e", wrong, service).split()[-1]

    ended = docker("wait", container)
    logs = docker("logs", container)
    docker("rm", "-f", container)

    assert ended.stdout == "2\n"
    assert (logs.stdout + logs.stderr).splitlines() == [
        "hash-worker: The broker at valkey:6379 refuses the password; correct broker.password, or broker.url."
    ]


@pytest.mark.parametrize(
    ("variable", "finding"),
    [
        (
            "HASH_WORKER_BROKER__PASSWORD_FILE=/etc/hostname",
            "wrong   broker: The broker at valkey:6379 refuses the password",
        ),
        ("HASH_WORKER_BROKER__URL=redis://nowhere:6379/0", "wrong   broker: nowhere:6379 does not answer"),
        (
            "HASH_WORKER_STORAGES__DEFAULT__ENDPOINT_URL=http://nowhere:9000",
            "wrong   S3 default: http://nowhere:9000/ does not answer",
        ),
        ("HASH_WORKER_API__ALLOWED_HOSTS=[]", "wrong   API: The settings allow no platform"),
    ],
)
def test_check_names_what_is_wrong_in_a_worker_that_is_up(
    running: Project, variable: str, finding: str
) -> None:
    """`hash-worker check` in the worker's container has a line for it, and exit status 1."""
    checked = docker("exec", "-e", variable, running.ids("worker")[0], "hash-worker", "check")

    assert finding in checked.stdout
    assert checked.returncode == 1


def test_check_can_be_run_where_no_worker_stays_up(running: Project) -> None:
    """A setting that can't be ends each worker, so `exec` finds none; the documented command makes one."""
    settings = running.directory / ".env"

    with gone(settings):
        settings.write_text(settings.with_name("away").read_text() + "HASH_WORKER_HASHING__SLOTS=1\n")
        running.compose("up", "-d", "--no-deps", "worker")
        [worker] = running.containers("worker")
        wait_until("it is started again and again", lambda: restarts(worker["ID"]) > 0)
        checked = running.compose("run", "--rm", "--no-deps", "-T", "worker", "check")

    running.up()
    assert "wrong   settings: hashing.slots: Input should be greater than or equal to 2." in checked


def restarts(container: str) -> int:
    """Tell how often a container was started again."""
    return int(docker("inspect", "-f", "{{.RestartCount}}", container).stdout)


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("worker", "HASH_WORKER_BROKER__PASSWORD_FILE"),
        ("worker", "HASH_WORKER_STORAGES__DEFAULT__SECRET_KEY_FILE"),
        ("gateway", "HASH_WORKER_GATEWAY__TOKEN_FILE"),
        ("flower", "HASH_WORKER_FLOWER__PASSWORD_FILE"),
    ],
)
@pytest.mark.parametrize(("path", "reason"), [("/none", "No such file"), ("/dev/null", "Wrong settings")])
def test_a_secret_that_cannot_be_used_is_one_line_and_the_end(
    running: Project, service: str, variable: str, path: str, reason: str
) -> None:
    """Where the file is away or empty, a program says which setting it is for and does not start."""
    [image] = {one["Image"] for one in running.containers(service)}
    command = {"worker": "run"}.get(service, service)

    ended = docker(
        "run",
        "--rm",
        "-e",
        f"{variable}={path}",
        "-e",
        "HASH_WORKER_STORAGES__DEFAULT__ACCESS_KEY=x",
        image,
        command,
    )

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert reason in ended.stderr


def test_a_storage_that_is_away_is_told_in_the_log(running: Project) -> None:
    """The worker's log has a line for each attempt, and `check` names the storage."""
    running.inside(
        "platform",
        "python",
        "-c",
        "import os, pathlib\n"
        "for each in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    if b'moto.server' in each.read_bytes(): os.kill(int(each.parent.name), 9)",
    )
    trial = running.try_()

    wait_until(
        "the log tells of the storage", lambda: '"storage_unreachable"' in running.compose("logs", "worker")
    )
    checked = running.inside("worker", "hash-worker", "check")
    trial.give_up()
    running.keep_logs()
    assert "wrong   S3 default: http://platform:9000/ does not answer" in checked.stdout
    assert "Traceback" not in running.logs
