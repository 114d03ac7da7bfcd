"""boto3's own way to download in parallel parts, straight into the hashers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.contenders.boto import Hashers, s3_client
from bench.work import Digests, Work


def missing() -> str:
    """Tell what is missing: nothing, its libraries are there for the tests."""
    return ""


@contextmanager
def opened(work: Work) -> Iterator[Callable[[], Digests]]:
    """Make a client and give what hashes all objects, one after the other."""
    s3 = s3_client(work)

    def hash_all() -> Digests:
        digests = {}
        for key in work.keys:
            hashers = Hashers(work.algorithms)
            s3.download_fileobj(work.bucket, key, hashers)
            digests[key] = hashers.hex_digests()
        return digests

    yield hash_all
