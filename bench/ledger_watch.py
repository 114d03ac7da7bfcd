"""A job's ledger as it moves, read by the broker's own clock."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bench.lines import NoAnswerError
from worker.libsafe.names import job_name
from worker.libsafe.payload import Payload

_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Look:
    """What the ledger says at one moment.

    Args:
        at_seconds: By the broker's clock.
        fields: The ledger's; numbers are text.
    """

    at_seconds: float
    fields: Mapping[str, str]

    def number(self, name: str) -> int:
        """Give a count; 0 where there is none yet."""
        return int(self.fields.get(name, 0))

    @property
    def is_planned(self) -> bool:
        """Whether all batches are there."""
        return "planned" in self.fields

    @property
    def is_settled(self) -> bool:
        """Whether all batches are there and none is left."""
        return self.is_planned and self.number("settled") == self.number("batches")

    @property
    def is_over(self) -> bool:
        """Whether the platform has the job's end."""
        return "over" in self.fields


def looks(client: Redis, document: Mapping[str, Any], patience_seconds: float) -> Iterator[Look]:
    """Look at a job's ledger fifty times a second, until its end.

    Args:
        client: The broker's, with answers decoded.
        document: The job's payload.
        patience_seconds: For the whole job.

    Raises:
        NoAnswerError: It did not end in time.
    """
    name = f"{job_name(Payload.parse(document).address)}:ledger"
    give_up_at = time.monotonic() + patience_seconds
    while True:
        with client.pipeline() as pipe:
            pipe.time()
            pipe.hgetall(name)
            (seconds, microseconds), fields = pipe.execute()
        look = Look(seconds + microseconds / 1e6, fields)
        yield look
        if look.is_over:
            return
        if time.monotonic() > give_up_at:
            raise NoAnswerError(f"The job was not done within {patience_seconds:.0f} s; its ledger: {fields}")
        time.sleep(_LOOK_SECONDS)
