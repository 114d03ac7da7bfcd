"""An S3 server: moto, as a child process.

It keeps bodies beyond 16 MiB in temporary files, checks no credentials, knows versions and If-Match, and
reads the whole object for each range: right for small objects, useless for measurements. Any key serves but
one with a line break.
"""

import asyncio
import os
import re
import sys
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from worker.local.errors import MissingPartError
from worker.local.processes import ChildProcess

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

_PART_BYTES = (
    8 * 1024 * 1024
)  # as the AWS command line: larger files go up in parts, and their ETag is no MD5
_PORT = 9000
_LISTENS = re.compile(rb"Running on (http://127\.0\.0\.1:\d+)")
_TIMEOUT_SECONDS = 30


class S3Server:
    """A moto server on a free port of the loopback interface.

    Args:
        directory: For its log and the bodies that it keeps on disk.
        host: With the name by which other machines reach this one, it is at port 9000 of every interface.

    Attributes:
        access_key: Any would do.
        secret_key: Any would do.
        region: Where its buckets are made.
    """

    access_key = "local"
    secret_key = "local-secret"  # noqa: S105 - opens nothing: moto checks no credentials
    region = "us-east-1"

    def __init__(self, directory: Path, *, host: str | None = None) -> None:
        self._directory = directory
        self._host = host
        self._log_path = directory / "moto.log"
        self._child: ChildProcess | None = None
        self._here: str | None = None
        self._stack = AsyncExitStack()
        self._client: S3Client | None = None

    def __repr__(self) -> str:
        return f"<S3Server {self._here} {self._child or 'not started'}>"

    @property
    def endpoint(self) -> str:
        """The base URL; buckets are named in the path."""
        assert self._here is not None, "start it first"
        return self._here if self._host is None else f"http://{self._host}:{_PORT}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start the server and wait until it answers; it begins empty.

        Raises:
            MissingPartError: moto is not installed.
            StartError: The server did not come up.
        """
        if find_spec("moto") is None:
            raise MissingPartError("moto is not installed: install this package with its [local] extra.")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log_path.unlink(missing_ok=True)  # the port is read from it, and must not be an older one
        # In both cases it prints the loopback address that it can be reached at from here.
        host, port = ("127.0.0.1", 0) if self._host is None else ("0.0.0.0", _PORT)  # noqa: S104 - as asked
        self._child = ChildProcess(
            [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
            log_path=self._log_path,
            env=os.environ | {"TMPDIR": str(self._directory.absolute())},
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._child.stop)
            await self._child.start(self._listens, timeout_seconds=_TIMEOUT_SECONDS)
            self._client = await stack.enter_async_context(
                get_session().create_client(
                    "s3",
                    endpoint_url=self._here,
                    region_name=self.region,
                    aws_access_key_id=self.access_key,
                    aws_secret_access_key=self.secret_key,
                    config=AioConfig(
                        s3={"addressing_style": "path"},
                        proxies={},  # an outward proxy of this machine cannot reach its loopback interface
                        request_checksum_calculation="when_required",
                    ),
                )
            )
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """End the server; its objects are gone. Twice is fine."""
        await self._stack.aclose()

    async def create_bucket(self, bucket: str) -> None:
        """Make a bucket that keeps versions, as an archive's does."""
        client = self._started()
        await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    async def upload(self, bucket: str, key: str, path: Path) -> int:
        """Put a file into a bucket and return its size in bytes; one of more than 8 MiB goes up in parts."""
        client = self._started()
        with path.open("rb") as file:
            body = await _read_part(file)
            if len(body) < _PART_BYTES or os.fstat(file.fileno()).st_size == _PART_BYTES:
                await client.put_object(Bucket=bucket, Key=key, Body=body)
                return len(body)
            return await _upload_parts(client, bucket, key, body, file)

    async def _listens(self) -> bool:
        found = _LISTENS.search(self._log_path.read_bytes())
        self._here = found[1].decode() if found else None
        return found is not None

    def _started(self) -> "S3Client":
        assert self._client is not None, "start it first"
        return self._client


async def _upload_parts(client: "S3Client", bucket: str, key: str, body: bytes, file: BinaryIO) -> int:
    """Upload the first part and the rest of its file, one part in memory at a time."""
    upload_id = (await client.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"]
    parts: list[CompletedPartTypeDef] = []
    while body:
        number = len(parts) + 1
        answer = await client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        body = await _read_part(file)
    await client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )
    return file.tell()


async def _read_part(file: BinaryIO) -> bytes:
    return await asyncio.to_thread(file.read, _PART_BYTES)
