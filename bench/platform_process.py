"""The platform of a run in a process of its own: the jobs API and the broker, without an S3 server.

It takes lines of JSON on standard input and answers each with one:

    {"files": [[path, size], …],      a new container with these files and a job over them: its payload
     "algorithms": […]}
    {"wait": job id, "seconds": …}    the job's status when it has ended, or after so many seconds
    {"digests": job id}               the stored hashes of the job's files, by path
"""

import asyncio
import json
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.server import BUCKET
from bench.work import REGION, Digests
from worker.local.api import jobs_api, serve
from worker.local.broker import Broker
from worker.local.models import ENDED
from worker.local.store import PlatformStore

_POLL_SECONDS = 0.01


class _Platform:
    """The records, and what is asked about them."""

    def __init__(self, store: PlatformStore, endpoint_url: str, api_url: str) -> None:
        self._store = store
        self._api_url = api_url
        self._key = secrets.token_urlsafe(24)
        self._storage_id = store.add_storage(BUCKET, endpoint=endpoint_url, region=REGION)
        self._container_of_job: dict[str, str] = {}
        store.add_root_key(self._key)

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if "wait" in question:
            return await self._end_of(question["wait"], question["seconds"])
        if "digests" in question:
            return self._digests(question["digests"])
        return self._new_job(question["files"], question["algorithms"])

    def _new_job(self, files: list[tuple[str, int]], algorithms: list[str]) -> dict[str, Any]:
        container_id = self._store.add_container("Bench", self._storage_id)
        ids = [self._store.add_file(container_id, f"/{path}", size_bytes=size) for path, size in files]
        job_id = self._store.add_job(container_id)
        self._container_of_job[job_id] = container_id
        return {
            "api": {"url": self._api_url, "key_user": self._key, "key_root": self._key},
            "function_data": {
                "container": {"id": container_id},
                "user": {"id": "1"},
                "files": {"ids": ids, "paths": []},
                "job": {"id": job_id},
                "trigger": {"id": "0", "type": "", "regex": ""},
                "function": {"id": "0", "key": ""},
            },
            "function_params": {"algorithms": algorithms},
        }

    async def _end_of(self, job_id: str, seconds: float) -> dict[str, Any]:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._store.job(job_id).status not in ENDED:  # noqa: ASYNC110 - a request sets it
                    await asyncio.sleep(_POLL_SECONDS)
        return {"status": self._store.job(job_id).status}

    def _digests(self, job_id: str) -> Digests:
        files = self._store.files(self._container_of_job[job_id])
        return {
            file.fullpath.removeprefix("/"): {
                stored.algorithm: stored.hash for stored in self._store.hashes(file.id)
            }
            for file in files
        }


async def _main(endpoint_url: str, directory: Path) -> None:
    store = PlatformStore(directory / "platform.sqlite")
    broker = Broker(directory / "broker")
    await broker.start()
    try:
        async with serve(jobs_api(store)) as api_url:
            platform = _Platform(store, endpoint_url, api_url)
            await _read_line()
            _say({"broker_url": broker.url, "api_url": api_url})
            while line := await _read_line():
                _say(await platform.answer(json.loads(line)))
    finally:
        await broker.stop()
        store.close()


async def _read_line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2])))
