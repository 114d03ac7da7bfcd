"""A platform of any size in a process of its own: it makes its records up as it is asked for them.

It speaks the routes of the jobs API that a job without objects takes, forgets every report but a job's
status, and has a real broker beside it. It takes lines of JSON on standard input and answers each with one:

    {"files": …, "size_bytes": …}     a job's payload over a new container of so many files
    {"wait": job id, "seconds": …}    the job's status when it has ended, or after so many seconds
"""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from worker.local.api import serve
from worker.local.broker import Broker
from worker.local.models import ENDED, JobStatus

_POLL_SECONDS = 0.01
# A container's ids begin at its number times this, and every seventh number or so is one of them.
_IDS = 10**9
_GAP = 7
_FILES_IN_A_FOLDER = 1000
_KEY = "a-key-that-opens-nothing"


@dataclass(frozen=True, slots=True)
class _Container:
    number: int
    files: int
    size_bytes: int

    def file_id(self, index: int) -> int:
        # The gaps are uneven, as where files of several containers came at the same time.
        return self.number * _IDS + index * _GAP + (index * 2654435761 >> 9) % _GAP

    def record(self, index: int) -> dict[str, Any]:
        name = f"scan-{index:09d}.tif"
        return {
            "id": str(self.file_id(index)),
            "container_id": str(self.number),
            "filename": name,
            "fullpath": f"/holdings/{index // _FILES_IN_A_FOLDER:06d}/{name}",
            "size": self.size_bytes,
            "type": "FILE",
            "deleted": 0,
            "storage_class_id": "1",
        }


class _Platform:
    """Containers and jobs; a job has its container's number. It looks at no key."""

    def __init__(self) -> None:
        self._containers: dict[int, _Container] = {}
        self._status_of_job: dict[str, JobStatus] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/job/{id}", self._job)
        app.router.add_put("/api/job/{id}", self._set_status)
        app.router.add_post("/api/job/{id}/message", self._take)
        app.router.add_put("/api/file/{id}/hash", self._take)
        app.router.add_get("/api/file/{id}", self._file)
        app.router.add_get("/api/container/{id}/file/list", self._list)
        return app

    async def answer(self, question: dict[str, Any], api_url: str) -> dict[str, Any]:
        if "wait" not in question:
            return self._new_job(question["files"], question["size_bytes"], api_url)
        job_id = question["wait"]
        with suppress(TimeoutError):
            async with asyncio.timeout(question["seconds"]):
                while self._status_of_job[job_id] not in ENDED:  # noqa: ASYNC110 - a request sets it
                    await asyncio.sleep(_POLL_SECONDS)
        return {"status": self._status_of_job[job_id]}

    def _new_job(self, files: int, size_bytes: int, api_url: str) -> dict[str, Any]:
        number = len(self._containers) + 1
        self._containers[number] = _Container(number, files, size_bytes)
        self._status_of_job[str(number)] = JobStatus.PENDING
        return {
            "api": {"url": api_url, "key_user": _KEY, "key_root": _KEY},
            "function_data": {
                "container": {"id": str(number)},
                "user": {"id": "1"},
                "files": {"ids": [], "paths": []},
                "job": {"id": str(number)},
                "trigger": {"id": "0", "type": "", "regex": ""},
                "function": {"id": "0", "key": ""},
            },
            "function_params": {},
        }

    async def _job(self, request: web.Request) -> web.Response:
        job_id = request.match_info["id"]
        return _succeeded({"id": job_id, "status": self._status_of_job[job_id]})

    async def _set_status(self, request: web.Request) -> web.Response:
        self._status_of_job[request.match_info["id"]] = JobStatus((await request.json())["status"])
        return _succeeded(None)

    async def _take(self, request: web.Request) -> web.Response:
        await request.read()
        return _succeeded(None)

    async def _file(self, request: web.Request) -> web.Response:
        number, place = divmod(int(request.match_info["id"]), _IDS)
        return _succeeded(self._containers[number].record(place // _GAP))

    async def _list(self, request: web.Request) -> web.Response:
        container = self._containers[int(request.match_info["id"])]
        after = request.query.get("after")
        first = 0 if after is None else int(after) % _IDS // _GAP + 1
        last = min(first + int(request.query["limit"]), container.files)
        return _succeeded([container.record(index) for index in range(first, last)])


def _succeeded(result: object) -> web.Response:
    return web.json_response({"success": True, "result": result, "msg": ""})


async def _main(directory: Path) -> None:
    broker = Broker(directory / "broker")
    await broker.start()
    platform = _Platform()
    try:
        async with serve(platform.app()) as api_url:
            await _read_line()
            _say({"broker_url": broker.url, "api_url": api_url})
            while line := await _read_line():
                _say(await platform.answer(json.loads(line), api_url))
    finally:
        await broker.stop()


async def _read_line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
