"""Settings and secrets: how they are made, what is said where they are missing, and what is the trial's."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.compose_project import SECRETS, Project, clone, gone, make_secrets, wait_until


def test_who_has_made_no_secrets_is_told_how(project: Project) -> None:
    """`docker compose up` alone says the one command that has to come before it."""
    with gone(project.directory / ".env"):
        said = project.compose("up", "-d")

    assert "in .env, which `sh config/make-secrets.sh` makes" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "name", ["HASH_WORKER_API__ALLOWED_HOSTS", "HASH_WORKER_STORAGES__DEFAULT__ACCESS_KEY"]
)
def test_nothing_is_begun_before_the_platform_and_its_storage_are_named(project: Project, name: str) -> None:
    """A worker for a real platform with settings of the trial's would be ready, and do no job."""
    settings = project.directory / ".env"
    lines = settings.read_text().splitlines(keepends=True)

    with gone(settings):
        settings.write_text("".join(line for line in lines if not line.startswith(f"{name}=")))
        said = project.compose("up", "-d")

    assert f"required variable {name} is missing a value" in said
    assert project.containers() == []


def test_settings_of_a_real_platform_have_nothing_of_the_trials(project: Project, tmp_path: Path) -> None:
    """Without an endpoint of its own the storage is AWS."""
    fresh = clone(tmp_path / "clone")
    made = make_secrets(fresh)
    (fresh / "secrets" / "s3_secret_key").write_text("secret")
    with (fresh / ".env").open("a") as settings:
        settings.write('HASH_WORKER_API__ALLOWED_HOSTS=["go.example.org"]\n')
        settings.write("HASH_WORKER_STORAGES__DEFAULT__ACCESS_KEY=key\n")

    real = Project(fresh, {})
    worker = json.loads(real.compose("config", "--format", "json"))["services"]["worker"]

    assert "Now put the S3 secret key into secrets/s3_secret_key" in made.stdout
    assert worker["environment"]["HASH_WORKER_API__ALLOWED_HOSTS"] == '["go.example.org"]'
    assert worker["environment"]["HASH_WORKER_STORAGES__DEFAULT__ACCESS_KEY"] == "key"
    assert "platform:" not in json.dumps(worker)


def test_from_a_trial_to_a_real_platform_the_script_tells_the_way(project: Project, tmp_path: Path) -> None:
    """The trial's settings and S3 key, which nobody can write over, have to go; and the other way round."""
    fresh = clone(tmp_path / "clone")
    make_secrets(fresh, "local")

    refused = make_secrets(fresh)
    [remove] = re.findall("`(rm -f [^`]+)`", refused.stderr)
    subprocess.run(remove, shell=True, cwd=fresh, check=True)  # noqa: S602 - as the script says
    made = make_secrets(fresh)
    back = make_secrets(fresh, "local")

    assert refused.returncode == 1
    assert "Here is a trial: end it with `docker compose --profile local down -v`" in refused.stderr
    assert "Now put the S3 secret key" in made.stdout
    assert not (fresh / "secrets" / "s3_secret_key").exists()
    assert back.returncode == 1
    assert "Here is a real platform" in back.stderr


@pytest.mark.parametrize(("name", "service"), SECRETS.items())
def test_a_missing_secret_is_named_and_its_service_not_begun(
    project: Project, name: str, service: str
) -> None:
    """Compose names the file that is not there."""
    project.down()
    secret = project.directory / "secrets" / name

    with gone(secret):
        said = project.compose("up", "-d")

    assert f"does not exist: {secret}" in said
    assert project.ids(service) == []


def test_an_empty_password_is_told_and_no_broker_begun(project: Project) -> None:
    """A broker without a password is worse than none."""
    project.down()
    secret = project.directory / "secrets" / "broker_password"

    with gone(secret):
        secret.write_text("\n")
        project.compose("up", "-d", "valkey")
        wait_until(
            "the log tells it", lambda: "broker_password is empty" in project.compose("logs", "valkey")
        )
        project.down()


def test_a_password_with_a_line_end_of_windows_is_the_same_for_all(project: Project) -> None:
    """The broker and the workers read one file, and leave away the same of it."""
    project.down()
    secret = project.directory / "secrets" / "broker_password"

    with gone(secret):
        secret.write_bytes(b' a "quoted" pass\\word\r\n')
        project.compose("up", "-d", "valkey")
        wait_until(
            "the broker is well", lambda: [one["Health"] for one in project.containers()] == ["healthy"]
        )
        checked = project.compose("run", "--rm", "--no-deps", "-T", "worker", "check")
        project.down()

    assert "ok      broker: valkey:6379 answers." in checked


def test_secrets_are_made_once(project: Project) -> None:
    """A second time makes nothing anew, and has nothing to say."""
    folder = project.directory / "secrets"
    before = {name: (folder / name).read_bytes() for name in SECRETS}

    said = make_secrets(project.directory, "local")

    assert said.stdout + said.stderr == ""
    assert {name: (folder / name).read_bytes() for name in SECRETS} == before
    assert all(re.fullmatch(rb"[0-9a-f]{48}", secret) for secret in before.values())
