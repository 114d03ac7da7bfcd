"""`hash-worker local`: what it prints is enough to run a worker and a job against it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any


def test_the_lines_it_prints_lead_to_a_completed_job(hash_worker: Any, tmp_path: Path) -> None:
    """Settings and payload are where it says; with them `check` is content, and a worker ends the job."""
    (tmp_path / "a [bold] name.txt").write_bytes(b"abc")
    local = subprocess.Popen(
        [sys.executable, "-m", "worker", "local", str(tmp_path / "a [bold] name.txt")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert local.stdout
    printed = ""
    while not printed.endswith("Ctrl-C ends it.\n"):
        line = local.stdout.readline()
        assert line, local.communicate()[1]
        printed += line
    config = re.search(r"export (HASH_WORKER_CONFIG)=(\S+)", printed)
    payload = re.search(r"^payload +(\S+)", printed, re.MULTILINE)
    assert config
    assert payload
    env = dict(os.environ) | {config[1]: config[2]}
    document = json.loads(Path(payload[1]).read_text(encoding="utf-8"))

    checked = hash_worker("check", "--payload", payload[1], env=env)
    hash_worker("enqueue", payload[1], env=env)
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "run"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        while job_status(document) not in {"COMPLETED", "FAILED"}:
            assert worker.poll() is None
            time.sleep(0.05)
        status = job_status(document)
        worker.terminate()
    local.send_signal(signal.SIGINT)
    _, errors = local.communicate(timeout=30)

    assert (checked.returncode, status) == (0, "COMPLETED")
    assert (local.returncode, errors) == (130, "hash-worker: Stopped; nothing is left running.\n")
    assert not Path(config[2]).exists()


def job_status(payload: Any) -> str:
    """Ask the platform as anybody could."""
    job_id = payload["function_data"]["job"]["id"]
    request = urllib.request.Request(  # noqa: S310 - the address is the local platform's
        f"{payload['api']['url']}/api/job/{job_id}",
        headers={"Authorization": f"Bearer {payload['api']['key_user']}"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        return str(json.load(answer)["result"]["status"])
