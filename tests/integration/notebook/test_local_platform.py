"""The local platform from a cell, and how it leaves."""

import os
from pathlib import Path

import pytest

from worker.local.errors import UnusablePathError
from worker.notebook import File, NotebookError, Request, start_local_platform
from worker.settings import CONFIG_VARIABLE, load


def test_until_it_is_stopped_this_program_has_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the old ones are there again; nothing else stays."""
    monkeypatch.setenv("HASH_WORKER_HASHING__LANES", "3")
    (tmp_path / "a.txt").write_bytes(b"abc")
    before = dict(os.environ)

    platform = start_local_platform([tmp_path / "a.txt"])
    config = Path(os.environ[CONFIG_VARIABLE])
    settings = load()
    pids = [platform._platform.s3.pid, platform._platform.broker.pid]
    platform.stop()
    platform.stop()

    assert settings.api.allowed_hosts == (platform.api_url.removeprefix("http://"),)
    assert settings.hashing.lanes == 0
    assert dict(os.environ) == before
    assert not config.parent.exists()
    assert all(pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_of_two_the_settings_are_those_of_the_one_that_runs(tmp_path: Path) -> None:
    """In whatever order they are stopped; at the end this program has its own again."""
    (tmp_path / "a.txt").write_bytes(b"abc")
    before = dict(os.environ)

    with start_local_platform([tmp_path / "a.txt"]):
        first = os.environ[CONFIG_VARIABLE]
        with start_local_platform([tmp_path / "a.txt"]):
            pass
        in_order = os.environ[CONFIG_VARIABLE]
    older, newer = (start_local_platform([tmp_path / "a.txt"]) for _ in range(2))
    older.stop()
    hosts = load().api.allowed_hosts
    newer.stop()

    assert in_order == first
    assert hosts == (newer.api_url.removeprefix("http://"),)
    assert dict(os.environ) == before


def test_one_path_is_one_and_a_stopped_platform_gives_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text is not gone through by its characters, of which `/` is the whole machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_bytes(b"abc")

    with start_local_platform("~/a.txt") as platform:
        files = [file.fullpath for file in Request(None, platform.payload()).Files]

    assert files == ["/a.txt"]
    for verb in (platform.payload, lambda: platform.add(tmp_path)):
        with pytest.raises(NotebookError, match="was stopped: start another"):
            verb()


def test_without_paths_it_has_a_sample_and_more_can_be_added(tmp_path: Path) -> None:
    """Each payload is a job of its own."""
    (tmp_path / "more.txt").write_bytes(b"more")

    with start_local_platform() as platform:
        added = platform.add(tmp_path / "more.txt")
        payloads = [platform.payload(), platform.payload(paths=["more.txt"])]
        requests = [Request(None, payload) for payload in payloads]
        found = [[file.id for file in request.Files] for request in requests]
        name = File.get(added[0]).filename

    assert len(platform.file_ids) == 6
    assert found == [platform.file_ids + added, added]
    assert name == "more.txt"
    assert len({request.job_id for request in requests}) == 2


def test_a_path_that_is_not_there_is_told_and_nothing_runs_on(tmp_path: Path) -> None:
    """In one sentence."""
    before = dict(os.environ)

    with pytest.raises(UnusablePathError, match="nothing"):
        start_local_platform([tmp_path / "nothing"])

    assert dict(os.environ) == before
