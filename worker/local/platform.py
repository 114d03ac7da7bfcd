"""The whole platform on this machine: jobs API, S3 server and broker, with one container in it."""

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.local.api import jobs_api, serve
from worker.local.broker import Broker
from worker.local.errors import UnusablePathError
from worker.local.models import File, Job, Message
from worker.local.s3 import S3Server
from worker.local.store import PlatformStore
from worker.local.uploads import Upload, plan_together, plan_uploads

_API_PORT = 8000


class LocalPlatform:
    """A platform with one bucket, storage, container, user key and root key, while the block runs.

    Everything is on free ports of the loopback interface, and everything ends in reverse order of its start,
    also when the start fails half-way or is cancelled.

    Args:
        directory: For its records, data and logs; made if it is missing, and not used twice.
        host: With the name by which other machines reach this one, jobs API and S3 are for them: at ports
            8000 and 9000 of every interface. There is no broker then, since theirs is elsewhere.

    Attributes:
        broker: The valkey; not started where there is a host.
        s3: The S3 server.
        api_url: The jobs API's base, without `/api`.
        s3_endpoint: The S3 server's base URL; buckets are named in the path.
        s3_access_key: Fits the S3 server.
        s3_secret_key: Fits the S3 server.
        region: The bucket's.
        bucket: Where the objects are.
        storage_id: The storage that names the bucket.
        container_id: The one container.
        user_id: Whose key `key_user` of a payload is.
        broker_url: With its password: a secret.
    """

    bucket = "archive"

    def __init__(self, directory: Path, *, host: str | None = None) -> None:
        self._directory = directory
        self._host = host
        # A broker that outlives this platform remembers its jobs by their ids.
        self._first_job_id = 1 if host is None else int(time.time())
        self._stack = AsyncExitStack()
        self.broker = Broker(directory / "broker")
        self.s3 = S3Server(directory / "s3", host=host)
        self._user_key = secrets.token_urlsafe(24)
        self._root_key = secrets.token_urlsafe(24)

    def __repr__(self) -> str:
        return f"<LocalPlatform in {self._directory}: {self.broker!r}, {self.s3!r}>"

    async def __aenter__(self) -> Self:
        """Start everything.

        Raises:
            UnusablePathError: The directory holds an earlier platform.
            MissingPartError: Something is not installed.
            StartError: A server did not come up.
        """
        async with AsyncExitStack() as stack:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store = PlatformStore(_new_file(records_path(self._directory)))
            stack.callback(self._store.close)
            if self._host is None:
                stack.push_async_callback(self.broker.stop)  # first, so that nothing can come in between
                await self.broker.start()
            stack.push_async_callback(self.s3.stop)
            await self.s3.start()
            await self.s3.create_bucket(self.bucket)
            self._fill()
            where = () if self._host is None else ("0.0.0.0", _API_PORT)  # noqa: S104 - for other machines
            url = await stack.enter_async_context(serve(jobs_api(self._store), *where))
            self.api_url = url if self._host is None else f"http://{self._host}:{_API_PORT}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _fill(self) -> None:
        self.broker_url = self.broker.url
        self.s3_endpoint = self.s3.endpoint
        self.s3_access_key = self.s3.access_key
        self.s3_secret_key = self.s3.secret_key
        self.region = self.s3.region
        self.storage_id = self._store.add_storage(self.bucket, endpoint=self.s3_endpoint, region=self.region)
        self.container_id = self._store.add_container("Local files", self.storage_id)
        self.user_id = self._store.add_user_key(self._user_key, [self.container_id])
        self._store.add_root_key(self._root_key)

    async def add_path(self, path: Path, *, under: str = "") -> list[str]:
        """Upload a file, or every file below a folder, and return their ids in order of their paths.

        A file comes as its name, a folder's files with their paths below it. A path that is there already
        becomes a new version of the same file. Links to folders are not followed.

        Args:
            path: A file or a folder; an empty folder gives no id.
            under: The folder in the container that they come into; empty is its top.

        Raises:
            UnusablePathError: A name cannot be a key, or something there is no file that can be read; nothing
                is uploaded then.
        """
        return [await self._upload(upload) for upload in plan_uploads(path, under)]

    async def add_paths(self, paths: Sequence[Path]) -> list[str]:
        """Upload several files and folders; where their names meet, the later goes into a folder of its own.

        Raises:
            UnusablePathError: As in `add_path`; then nothing is uploaded.
        """
        return [await self._upload(upload) for upload in plan_together(paths)]

    def new_job(
        self,
        *,
        file_ids: Sequence[str] = (),
        paths: Sequence[str] = (),
        function_params: Mapping[str, Any] | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Make a job that nobody has begun.

        Args:
            file_ids: The payload's `files.ids`.
            paths: The payload's `files.paths`.
            function_params: Handed on as they are.

        Returns:
            The job's id and its payload, of the very shape that the platform sends. The payload holds keys.
        """
        job_id = self._store.add_job(self.container_id, least_id=self._first_job_id)
        return job_id, {
            "api": {"url": self.api_url, "key_user": self._user_key, "key_root": self._root_key},
            "function_data": {
                "container": {"id": self.container_id},
                "user": {"id": self.user_id},
                "files": {"ids": list(file_ids), "paths": list(paths)},
                "job": {"id": job_id},
                "trigger": {"id": "0", "type": "", "regex": ""},
                "function": {"id": "0", "key": ""},
            },
            "function_params": dict(function_params or {}),
        }

    @property
    def store(self) -> PlatformStore:
        """The records themselves, to fill in what a test or a notebook needs."""
        return self._store

    def job(self, job_id: str) -> Job:
        """Return a job, or raise NoSuchRecordError."""
        return self._store.job(job_id)

    def messages(self, job_id: str) -> list[Message]:
        """Return a job's messages, the oldest first."""
        return self._store.messages(job_id)

    def files(self) -> list[File]:
        """Return the records of all files by ascending id."""
        return self._store.files(self.container_id)

    def hashes(self, file_id: str) -> dict[str, str]:
        """Return a file's stored hashes by name of algorithm."""
        return {stored.algorithm: stored.hash for stored in self._store.hashes(file_id)}

    async def _upload(self, upload: Upload) -> str:
        size_bytes = await self.s3.upload(self.bucket, upload.key, upload.path)
        return self._store.add_file(self.container_id, "/" + upload.key, size_bytes=size_bytes)


def records_path(directory: Path) -> Path:
    """Give the file of the records of the platform in a folder."""
    return directory / "platform.sqlite"


def _new_file(path: Path) -> Path:
    if path.exists():
        raise UnusablePathError(f"{path.parent} holds an earlier platform: give a new folder.")
    return path
