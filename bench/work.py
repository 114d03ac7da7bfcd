"""What a contender is asked to do, as it travels to its process."""

from dataclasses import dataclass, field
from typing import Any

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

READ_BYTES = 8 * MiB
"""What the platform's own sample function reads at once."""

ACCESS_KEY = "bench"
SECRET_KEY = "bench"  # noqa: S105 - opens nothing: neither server checks it

REGION = "us-east-1"

Digests = dict[str, dict[str, str]]
"""Hex digests by key and algorithm."""


@dataclass(frozen=True, slots=True)
class Work:
    """Objects to hash.

    Args:
        endpoint_url: The S3 server, buckets in the path.
        bucket: Where the objects are.
        keys: Of the objects.
        size_bytes: Of all objects together.
        algorithms: As the registry of the worker names them.
        payload: Of the job to run, where the reports are part of the work.
    """

    endpoint_url: str
    bucket: str
    keys: tuple[str, ...]
    size_bytes: int
    algorithms: tuple[str, ...]
    payload: dict[str, Any] | None = field(default=None, repr=False)
