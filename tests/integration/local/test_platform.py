import asyncio
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from worker.local.broker import Broker
from worker.local.errors import StartError, UnusablePathError
from worker.local.models import FileHash, JobStatus, NewMessage
from worker.local.platform import LocalPlatform
from worker.local.s3 import S3Server

Children = Callable[[], set[int]]
SAMPLE = Path(__file__).parents[2] / "unit" / "libsafe" / "sample_payload.json"
ODD_NAMES = ["a b", "100%", "%41", "h#sh", "a+b", "q?x=y", "ü/日本/😀", "n/e/s/t", "x" * 200, ".hidden"]


async def test_a_platform_serves_and_leaves_nothing_behind(tmp_path: Path, children: Children) -> None:
    """While the block runs a broker and an S3 server run too; afterwards no process is left."""
    async with LocalPlatform(tmp_path / "platform") as platform:
        running, pids = children(), {platform.broker.pid, platform.s3.pid}
        async with (
            aiohttp.ClientSession() as session,
            session.get(platform.api_url + "/api/health") as answer,
        ):
            assert answer.status == 200

    assert running == pids
    assert children() == set()


async def test_odd_names_survive_from_the_folder_to_the_records(tmp_path: Path, children: Children) -> None:
    """Every file of a folder gets a record with its path and size, found by that path over HTTP."""
    folder = tmp_path / "files"
    for size_bytes, name in enumerate(ODD_NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size_bytes)

    async with LocalPlatform(tmp_path / "platform") as platform:
        file_ids = await platform.add_path(folder)
        files = platform.files()

    assert [file.id for file in files] == file_ids
    assert {(file.fullpath, file.size) for file in files} == {
        ("/" + name, size_bytes) for size_bytes, name in enumerate(ODD_NAMES)
    }


async def test_a_payload_has_the_shape_of_the_platforms_sample(tmp_path: Path, children: Children) -> None:
    """Every key of the platform's own document is there, with the same types, and nothing else."""
    sample = json.loads(SAMPLE.read_text(encoding="utf-8"))

    async with LocalPlatform(tmp_path / "platform") as platform:
        job_id, payload = platform.new_job(
            file_ids=["1"], paths=["/a"], function_params={"algorithms": ["md5"]}
        )
        _, bare = platform.new_job()
        status = platform.job(job_id).status

    assert shape(bare) == shape(sample | {"function_params": {}})
    assert payload["function_data"]["job"] == {"id": job_id}
    assert payload["function_data"]["files"] == {"ids": ["1"], "paths": ["/a"]}
    assert payload["function_params"] == {"algorithms": ["md5"]}
    assert status == JobStatus.PENDING


def shape(document: Any) -> Any:
    """Put its type in the place of each value."""
    return (
        {key: shape(value) for key, value in document.items()}
        if isinstance(document, dict)
        else type(document)
    )


async def test_the_payloads_keys_open_what_the_payload_names(tmp_path: Path, children: Children) -> None:
    """A client with nothing but a payload can report on its job."""
    (tmp_path / "file").write_text("x")
    async with LocalPlatform(tmp_path / "platform") as platform, aiohttp.ClientSession() as session:
        file_ids = await platform.add_path(tmp_path / "file", under="in/here")
        job_id, payload = platform.new_job(file_ids=file_ids)
        base = payload["api"]["url"] + "/api"

        statuses = []
        for key in (payload["api"]["key_user"], payload["api"]["key_root"]):
            headers = {"Authorization": f"Bearer {key}"}
            container = payload["function_data"]["container"]["id"]
            for path in (
                f"/job/{job_id}",
                f"/file/{file_ids[0]}",
                f"/container/{container}/file/path/in/here/file",
            ):
                async with session.get(base + path, headers=headers) as answer:
                    statuses.append(answer.status)

    assert statuses == [200] * 6


async def test_what_a_job_stored_can_be_read_without_http(tmp_path: Path, children: Children) -> None:
    """Status, messages and hashes come straight from the records."""
    (tmp_path / "file").write_text("x")
    async with LocalPlatform(tmp_path / "platform") as platform:
        [file_id] = await platform.add_path(tmp_path / "file")
        job_id, _ = platform.new_job(file_ids=[file_id])
        platform.store.set_status(job_id, JobStatus.FAILED)
        platform.store.add_message(job_id, NewMessage(message="hello"))
        platform.store.set_hash(file_id, FileHash(algorithm="md5", hash="00"))

        assert platform.job(job_id).status == "FAILED"
        assert [message.message for message in platform.messages(job_id)] == ["hello"]
        assert platform.hashes(file_id) == {"md5": "00"}


async def test_no_secret_shows_in_a_repr(tmp_path: Path, children: Children) -> None:
    """Neither a payload's keys nor the broker's password."""
    async with LocalPlatform(tmp_path / "platform") as platform:
        _, payload = platform.new_job()
        password = platform.broker_url.split(":")[2].split("@")[0]
        shown = repr(platform)

    assert not [
        secret
        for secret in (payload["api"]["key_user"], payload["api"]["key_root"], password)
        if secret in shown
    ]


async def test_a_folder_is_not_used_twice(tmp_path: Path, children: Children) -> None:
    """Its queue would hold the earlier platform's messages."""
    async with LocalPlatform(tmp_path / "platform"):
        pass

    with pytest.raises(UnusablePathError, match="earlier platform"):
        await LocalPlatform(tmp_path / "platform").__aenter__()


@pytest.mark.parametrize("part", [Broker, S3Server])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_start_that_is_cancelled_half_way_leaves_nothing_behind(
    tmp_path: Path,
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    part: type[Broker | S3Server],
    *,
    begun: bool,
) -> None:
    """Wherever the start hangs, before a part or after it, a cancelled one takes back what there is."""
    hangs, start = asyncio.Event(), part.start

    async def start_and_hang(self: Any) -> None:
        if begun:
            await start(self)
        hangs.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(part, "start", start_and_hang)
    starting = asyncio.create_task(LocalPlatform(tmp_path / "platform").__aenter__())
    await hangs.wait()
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == set()


async def test_a_part_that_does_not_start_takes_the_others_with_it(
    tmp_path: Path, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker runs already when the S3 server fails."""

    async def fail(_: S3Server) -> None:
        assert children()
        raise StartError("no S3 today")

    monkeypatch.setattr(S3Server, "start", fail)

    with pytest.raises(StartError, match="no S3 today"):
        await LocalPlatform(tmp_path / "platform").__aenter__()
    assert children() == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_a_platform_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not even SIGKILL leaves a server on its port."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from worker.local.platform import LocalPlatform\n"
        "async def main():\n"
        "    async with LocalPlatform(pathlib.Path(sys.argv[1])) as platform:\n"
        "        print(platform.broker.pid, platform.s3.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop; the code is ours
        [sys.executable, "-c", code, str(tmp_path / "platform")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        handles = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()

    assert len(handles) == 2
    for handle in handles:
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)
