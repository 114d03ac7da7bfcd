"""`aws s3 cp s3://… - | tee >(md5sum) >(sha1sum) …`, all objects at once."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.work import ACCESS_KEY, REGION, SECRET_KEY, Digests, Work

_PROGRAMS = {
    "md5": "md5sum",
    "sha1": "sha1sum",
    "sha256": "sha256sum",
    "sha512": "sha512sum",
    "blake3": "b3sum",
}


def missing() -> str:
    """Tell what is missing."""
    wanted = ("aws", "tee")
    return ", ".join(f"{name} is not installed" for name in wanted if not shutil.which(name))


def left_out(algorithms: tuple[str, ...]) -> str:
    """Name the algorithms that no installed program calculates."""
    return ", ".join(name for name in algorithms if not shutil.which(_PROGRAMS[name]))


@contextmanager
def opened(work: Work) -> Iterator[Callable[[], Digests]]:
    """Give what hashes all objects."""
    names = [name for name in work.algorithms if shutil.which(_PROGRAMS[name])]

    def hash_all() -> Digests:
        pipelines = {key: _Pipeline(work, key, names) for key in work.keys}
        return {key: pipeline.wait() for key, pipeline in pipelines.items()}

    yield hash_all


class _Pipeline:
    """One object's pipeline, without a shell so that every process is waited for by us."""

    def __init__(self, work: Work, key: str, names: list[str]) -> None:
        self._hashers = {
            name: subprocess.Popen([_PROGRAMS[name]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - coreutils
            for name in names
        }
        inputs = [hasher.stdin.fileno() for hasher in self._hashers.values() if hasher.stdin]
        self._aws = subprocess.Popen(  # noqa: S603 - the AWS command line
            ["aws", "--endpoint-url", work.endpoint_url, "s3", "cp", f"s3://{work.bucket}/{key}", "-"],  # noqa: S607 - from PATH
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_REGION": REGION,
                "AWS_CONFIG_FILE": os.devnull,
            },
        )
        self._tee = subprocess.Popen(  # noqa: S603 - coreutils
            ["tee", *(f"/dev/fd/{number}" for number in inputs)],  # noqa: S607 - from PATH
            stdin=self._aws.stdout,
            stdout=subprocess.DEVNULL,
            pass_fds=inputs,
        )
        # Only tee may hold them, or their readers would never see the end.
        for hasher in self._hashers.values():
            assert hasher.stdin is not None
            hasher.stdin.close()
            hasher.stdin = None
        assert self._aws.stdout is not None
        self._aws.stdout.close()

    def wait(self) -> dict[str, str]:
        digests = {
            name: hasher.communicate()[0].split()[0].decode() for name, hasher in self._hashers.items()
        }
        if self._tee.wait() or self._aws.wait():
            raise RuntimeError("A program of the pipeline failed; its own message is above.")
        return digests
