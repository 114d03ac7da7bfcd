"""The S3 server of a run: nginx over a folder, or moto where there is no nginx."""

import asyncio
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from worker.local.processes import free_port
from worker.local.s3 import S3Server

BUCKET = "objects"
_READY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Server:
    """Where the objects are served.

    Args:
        name: For people.
        endpoint_url: Buckets are in the path.
        pid: Its process, whose children may be more of it.
    """

    name: str
    endpoint_url: str
    pid: int


@contextmanager
def serving(data: Path, directory: Path) -> Iterator[Server]:
    """Serve a folder's files as objects while the block runs.

    Args:
        data: The folder that holds the bucket's folder.
        directory: For configuration and logs.
    """
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    with _nginx(nginx, data, directory) if nginx else _moto(data, directory) as server:
        yield server


@contextmanager
def _nginx(program: str, data: Path, directory: Path) -> Iterator[Server]:
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(_config(port, data.absolute(), directory.absolute()), encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - nginx itself
        [program, "-e", str(directory.absolute() / "nginx.log"), "-c", str(config.absolute())],
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield Server("nginx, sendfile from the page cache", f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


def _config(port: int, data: Path, directory: Path) -> str:
    # As root, nginx would change to a user that may not be able to see the files.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"    {kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
{user}
daemon off;
worker_processes auto;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    default_type application/octet-stream;
{temporary}
    server {{
        listen 127.0.0.1:{port};
        root {data};
    }}
}}
"""


def _wait_for(port: int) -> None:
    deadline_seconds = time.monotonic() + _READY_SECONDS
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("HEAD", "/")
            connection.getresponse()
        except OSError:
            if time.monotonic() > deadline_seconds:
                raise
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()


@contextmanager
def _moto(data: Path, directory: Path) -> Iterator[Server]:
    """Serve by moto, which reads the whole object for each range: only of use for a look at small sizes."""
    server = S3Server(directory / "moto")
    with asyncio.Runner() as runner:
        runner.run(server.start())
        try:
            runner.run(server.create_bucket(BUCKET))
            for path in sorted((data / BUCKET).iterdir()):
                runner.run(server.upload(BUCKET, path.name, path))
            yield Server("moto, for want of nginx: slow, ranges above all", server.endpoint, server.pid or 0)
        finally:
            runner.run(server.stop())
