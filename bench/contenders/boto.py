"""What the two contenders that use boto3 share: a client, and hashers in a row."""

from typing import Any

import boto3  # type: ignore[import-untyped]  # it has no types
from botocore.config import Config

from bench.cases import new_hasher
from bench.work import ACCESS_KEY, REGION, SECRET_KEY, Work


def s3_client(work: Work) -> Any:
    """Make a client of the server."""
    return boto3.client(
        "s3",
        endpoint_url=work.endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )


class Hashers:
    """The hashers of one object, each given every piece in turn; a file that can only be written."""

    def __init__(self, algorithms: tuple[str, ...]) -> None:
        self._hashers = {name: new_hasher(name) for name in algorithms}

    def write(self, piece: bytes) -> int:
        """Hash a piece."""
        for hasher in self._hashers.values():
            hasher.update(piece)
        return len(piece)

    def hex_digests(self) -> dict[str, str]:
        """Give the digests by algorithm."""
        return {name: hasher.hexdigest() for name, hasher in self._hashers.items()}
