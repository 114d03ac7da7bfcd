"""The compose file as an operator uses it: a clone, a project of its own, and what its containers say."""

import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What git does not keep: caches, what was made, and what an operator has set here.
_NOT_CLONED = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", ".env", "secrets"
)
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 120

SECRETS = {
    "broker_password": "valkey",
    "gateway_token": "gateway",
    "s3_secret_key": "worker",
    "flower_password": "flower",
}
"""Each secret, and a service that can't be without it."""

Answer = subprocess.CompletedProcess[str]


def clone(directory: Path) -> Path:
    """Copy the working tree into a folder that is not there yet, without what git ignores."""
    shutil.copytree(ROOT, directory, ignore=_NOT_CLONED)
    return directory


def make_secrets(directory: Path, *arguments: str) -> Answer:
    """Run the clone's `config/make-secrets.sh` to its end."""
    return subprocess.run(
        ["sh", "config/make-secrets.sh", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """Have a file away while the block runs."""
    away = path.with_name("away")
    path.rename(away)
    yield
    away.rename(path)


def docker(*arguments: str) -> Answer:
    """Run `docker …` to its end."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
    )


def wait_until(what: str, look: Callable[[], object]) -> None:
    """Look until there is something."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, f"not in {_PATIENCE_SECONDS} s: {what}"
        time.sleep(_POLL_SECONDS)


class Project:
    """A compose project of its own over a clone.

    Whether something went well is seen from the containers: not every way of installing compose hands on its
    exit status.

    Args:
        directory: The clone.
        settings: More variables for compose.
        files: More compose files, after the clone's own.
    """

    def __init__(self, directory: Path, settings: dict[str, str], files: Sequence[Path] = ()) -> None:
        self.directory = directory
        self.name = f"hash-worker-{secrets.token_hex(4)}"
        self.logs = ""
        """Of all containers until `keep_logs` was last called."""
        self._trials = 0
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HASH_WORKER_", "COMPOSE_"))
        } | {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": os.pathsep.join(map(str, [directory / "docker-compose.yml", *files])),
            "COMPOSE_PROFILES": "local",
            # Any that is free.
            "GATEWAY_PORT": "0",
            "FLOWER_PORT": "0",
            **settings,
        }

    def __repr__(self) -> str:
        return f"<Project {self.name}>"

    def set(self, name: str, value: str) -> None:
        """Set a variable for compose."""
        self._environment[name] = value

    def compose(self, *arguments: str, timeout_seconds: float = 300) -> str:
        """Run `docker compose …` to its end, and give what it said."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        return done.stdout + done.stderr

    def shell(self, commands: str) -> None:
        """Run commands in a shell to their end, as an operator does in the clone's folder."""
        subprocess.run(
            ["sh", "-euc", commands],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            check=True,
        )

    def up(self, *arguments: str) -> None:
        """Say `docker compose up -d`, and wait until each container is healthy."""
        self.keep_logs()
        said = self.compose("up", "-d", *arguments)

        def all_healthy() -> bool:
            containers = self.containers()
            return bool(containers) and all(one["Health"] == "healthy" for one in containers)

        try:
            wait_until("all containers are healthy", all_healthy)
        except AssertionError:
            self.keep_logs()
            print(said, self.containers(), self.logs[-10_000:])  # noqa: T201 - pytest shows it with the failure
            raise

    def down(self) -> None:
        """Remove everything but the images."""
        self.compose("down", "-v", "--remove-orphans", "-t", "5")

    def keep_logs(self) -> None:
        """Add the containers' logs to those that are kept; a container takes its own along when it goes."""
        self.logs += self.compose("logs", "--no-color")

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Tell what `docker compose ps` tells of each container, stopped ones too."""
        said = self.compose("ps", "-a", "--format", "json", *services)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def ids(self, service: str) -> list[str]:
        """Give the ids of a service's running containers."""
        return [one["ID"] for one in self.containers(service) if one["State"] == "running"]

    def secret(self, name: str) -> str:
        """Read a secret."""
        return (self.directory / "secrets" / name).read_text()

    def payload_keys(self) -> list[str]:
        """Read the two keys of a payload of the trial platform."""
        payload = self._payload()
        return [payload["api"]["key_user"], payload["api"]["key_root"]]

    def _payload(self) -> Any:
        """Read the payload of the job that the trial platform begins with."""
        return json.loads(self.inside("platform", "cat", "/tmp/platform/payload.json").stdout)  # noqa: S108 - the container's

    def url(self, service: str, port: int) -> str:
        """Give the address that a service's port is published at."""
        return f"http://{self.compose('port', service, str(port)).strip()}"

    def inside(self, service: str, *command: str) -> Answer:
        """Run a command in a service's first container to its end."""
        return docker("exec", self.ids(service)[0], *command)

    def try_(self, *options: str) -> "Trial":
        """Begin a job over all files of the platform, as `hash-worker try` does."""
        self._trials += 1
        job_id = int(self._payload()["function_data"]["job"]["id"]) + self._trials
        process = subprocess.Popen(
            ["docker", "exec", self.ids("platform")[0], "hash-worker", "try", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Trial(self, str(job_id), process)

    def ask_gateway(self, path: str) -> str:
        """Ask the gateway; nothing is said where it does not answer well."""
        return _ask(self.url("gateway", 8080) + path, f"Bearer {self.secret('gateway_token')}")

    def ask_flower(self, path: str) -> str:
        """Ask Flower; nothing is said where it does not answer well."""
        user = b64encode(f"operator:{self.secret('flower_password')}".encode()).decode()
        return _ask(self.url("flower", 5555) + path, f"Basic {user}")


def _ask(url: str, authorization: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": authorization})  # noqa: S310 - our own
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return str(answer.read().decode())
    except (OSError, HTTPException):
        return ""


class Trial:
    """A job under way, and the command that waits for its end."""

    def __init__(self, project: Project, job_id: str, process: "subprocess.Popen[str]") -> None:
        self.job_id = job_id
        self._project = project
        self._process = process

    def wait_for_the_middle(self) -> None:
        """Wait until a file is done, and make sure that not all are."""
        files: dict[str, int] = {}

        def some_done() -> bool:
            text = self._project.ask_gateway(f"/v1/jobs/{self.job_id}")
            files.update(json.loads(text)["files"] if text else {})
            return bool(files.get("done"))

        wait_until(f"a file of job {self.job_id} is done", some_done)
        assert files["done"] < files["total"]

    def must_go_on(self) -> None:
        """Make sure that the job has not ended: what was done by now was done to it."""
        assert self._process.poll() is None, "it was over before anything was done to it"

    def give_up(self) -> None:
        """Wait for the end no longer; the job goes on."""
        self._process.kill()
        self._process.communicate()

    def result(self) -> Any:
        """Wait for the end, and give what the platform has then."""
        printed, said = self._process.communicate(timeout=_PATIENCE_SECONDS)
        assert self._process.returncode == 0, printed + said
        return json.loads(printed)


@contextmanager
def project_of(directory: Path, settings: dict[str, str], files: Sequence[Path] = ()) -> Iterator[Project]:
    """Have a project while the block runs; whatever happens, nothing of it stays but images."""
    project = Project(directory, settings, files)
    try:
        yield project
    finally:
        project.down()
