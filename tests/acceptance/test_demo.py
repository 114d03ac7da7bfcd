"""`hash-worker demo`: the main job with real parts, judged by coreutils."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.support.marked_processes import processes_with

ODD_NAMES = (
    "plain.txt",
    "two words.txt",
    " leading and trailing ",
    "100%.txt",
    "%41%2F.txt",
    "a#b?c=d&e.txt",
    "a+b.txt",
    "Straße-日本語-🎼.txt",
    "e\u0301-decomposed.txt",
    "quote'\"back\\slash.txt",
    "-leading-dash",
    "..dots..",
    "n" * 200,
    "nested/deeper/deepest/file.bin",
    "nested/with space/100%/file.bin",
    "empty",
)


def test_odd_names_and_contents_get_the_digests_that_coreutils_gives(
    hash_worker: Any, tmp_path: Path
) -> None:
    """Spaces, `%`, `#`, `+`, unicode, 200 characters, nested folders: each is right, in nothing but JSON."""
    folder = tmp_path / "odd"
    for number, name in enumerate(ODD_NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else f"content {number} of {name}".encode() * (number + 1))

    done = hash_worker("demo", "--json", folder)

    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert document["job"]["status"] == "COMPLETED"
    assert {file["path"]: file["hashes"] for file in document["files"]} == {
        name: digests_by_coreutils(folder / name) for name in ODD_NAMES
    }
    assert [file["size"] for file in document["files"]] == [
        (folder / file["path"]).stat().st_size for file in document["files"]
    ]
    assert document["messages"][-1]["text"].startswith(f"Hashed {len(ODD_NAMES)} files, ")
    assert document["messages"][-1].keys() == {"type", "text", "file_id"}


def test_two_files_of_one_name_are_two_files(hash_worker: Any, tmp_path: Path) -> None:
    """Whoever names both wants both."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder, encoding="utf-8")

    done = hash_worker("demo", "--json", "--algorithms", "md5", "a/x.txt", "b/x.txt")

    assert [(file["path"], file["hashes"]["md5"]) for file in json.loads(done.stdout)["files"]] == [
        ("x.txt", "0cc175b9c0f1b6a831c399e269772661"),
        ("2/x.txt", "92eb5ffee6ae2fec3ad71c777531578f"),
    ]


def test_the_sample_is_hashed_with_nothing_given(hash_worker: Any) -> None:
    """An empty file, one byte, a text, 8 MiB, one byte more and 64 MiB; the end is COMPLETED."""
    done = hash_worker("demo", "--algorithms", "md5,xxh3-64")

    assert done.returncode == 0, done.stderr
    assert "empty.bin  0 bytes\n  md5       d41d8cd98f00b204e9800998ecf8427e\n" in done.stdout
    assert "64-MiB.bin  67108864 bytes\n" in done.stdout
    assert done.stdout.endswith("Job 1: COMPLETED\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--algorithms", "md5,md6"], "md6"),
        (["nowhere/at-all"], "nowhere/at-all: there is no such file or folder."),
    ],
)
def test_what_cannot_begin_is_told_in_one_sentence(hash_worker: Any, arguments: list[str], told: str) -> None:
    """Exit status 2, nothing on standard output, no traceback."""
    done = hash_worker("demo", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_in_the_middle_leaves_no_process_and_no_file(
    tmp_path: Path, stop: signal.Signals
) -> None:
    """Ctrl-C ends broker, S3, platform, worker and lanes, and removes what they wrote."""
    marker = f"{stop.name}-{os.getpid()}"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(1 << 30)
    demo = subprocess.Popen(
        [sys.executable, "-m", "worker", "demo", str(big)],
        env={**os.environ, "TMPDIR": str(temporary), "DEMO_MARKER": marker},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # Broker and S3 at least: then there is something to leave behind.
    while demo.poll() is None and len(processes_with(marker)) < 3:
        time.sleep(0.02)
    demo.send_signal(stop)
    _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 130, errors
    assert errors.endswith("hash-worker: Stopped; nothing is left running.\n")
    assert processes_with(marker) == []
    assert list(temporary.iterdir()) == []


def digests_by_coreutils(path: Path) -> dict[str, str]:
    """Hash a file with programs that share nothing with ours; for blake3 there is none everywhere."""
    digests = {
        name: subprocess.check_output([f"{name}sum", path], text=True).removeprefix("\\").split()[0]
        for name in ("md5", "sha1", "sha256")
    }
    return {"blake3": blake3(path.read_bytes()).hexdigest()} | digests
