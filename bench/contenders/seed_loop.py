"""The platform's own sample function: one stream, 8 MiB a read, algorithm by algorithm, file by file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.contenders.boto import Hashers, s3_client
from bench.contenders.platform_calls import PlatformCalls
from bench.work import READ_BYTES, Digests, Work


def missing() -> str:
    """Tell what is missing: nothing, its libraries are there for the tests."""
    return ""


@contextmanager
def opened(work: Work) -> Iterator[Callable[[], Digests]]:
    """Make a client and give what hashes all objects, as a job with reports where there is a payload."""
    s3 = s3_client(work)
    payload = work.payload
    if payload is None:
        yield lambda: {key: _hash_object(s3, work, key) for key in work.keys}
    else:
        with PlatformCalls(payload) as platform:
            yield lambda: _run_job(s3, work, platform, payload["function_data"]["files"]["ids"])


def _hash_object(s3: Any, work: Work, key: str) -> dict[str, str]:
    hashers = Hashers(work.algorithms)
    body = s3.get_object(Bucket=work.bucket, Key=key)["Body"]
    while piece := body.read(READ_BYTES):
        hashers.write(piece)
    return hashers.hex_digests()


def _run_job(s3: Any, work: Work, platform: PlatformCalls, file_ids: list[str]) -> Digests:
    platform.set_status("RUNNING")
    digests = {}
    for file_id in file_ids:
        key = platform.file(file_id)["fullpath"].removeprefix("/")
        metadata = platform.metadata(file_id)
        platform.log(str(metadata) if metadata else f"File {file_id} has no metadata")
        digests[key] = _hash_object(s3, work, key)
        for name, text in digests[key].items():
            platform.log(f"File hash calculated: {name.upper():<6} - {text}", file_id)
        for name, text in digests[key].items():
            platform.set_hash(file_id, name, text)
    platform.set_status("COMPLETED")
    return digests
