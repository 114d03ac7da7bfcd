"""The outbox: reports in the broker's Redis, from before they are sent until the platform has them.

A job has one, and each batch of a job that is spread. It is a stream of entries. An entry holds reports that
belong together, such as those of one file, and is written in one script with what that file came to, which
the ledger counts. Nothing is written but by the run that holds the lease of the job or of the batch: the
script looks at the lease itself. The entry of the end is the last one for ever.

An entry's id is `<epoch>-<count>`: the epoch is the broker's clock in milliseconds when the run took the
lease, so that ids grow from run to run and are not used again after the broker lost its data either, unless
its clock went back.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog
from pydantic import SecretStr, TypeAdapter
from redis.asyncio import Redis

from worker.libsafe.errors import JobAddress, JobTakenOverError
from worker.libsafe.names import END_KEPT_SECONDS, KEPT_WHILE_IT_RUNS, UNDELIVERED, batch_named
from worker.libsafe.outbox_scripts import ACCEPT, CLEAR, DISCARD, PUT
from worker.libsafe.reports import EndOfBatch, MessageReport, Report, StatusReport

# A platform may refuse every report of a job of millions of files; the count goes on.
_MOST_REFUSALS_KEPT = 1000
_log = structlog.get_logger(__name__)

_REPORTS = TypeAdapter(tuple[Report, ...])


class Fence(Protocol):
    """Who may write: the run that holds the lease of the job, or of the batch."""

    @property
    def token(self) -> str:
        """What the lease holds while it is this run's."""

    @property
    def epoch(self) -> int:
        """When it took the lease, in milliseconds of the broker's clock."""

    @property
    def rooms(self) -> tuple[str, ...]:
        """In which rooms it has a place, until its work is done."""

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have the lease by now."""

    async def confirm(self) -> None:
        """Wait until it is sure; raise `JobTakenOverError` if another run has the lease."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Reports that belong together, and what names them in the stream."""

    id: str
    reports: tuple[Report, ...]

    @property
    def is_end(self) -> bool:
        """Whether it ends the job or the batch."""
        return any(isinstance(report, StatusReport | EndOfBatch) for report in self.reports)


@dataclass(frozen=True, slots=True)
class FileDone:
    """A file of which all is told.

    Args:
        file: What names it among the job's files.
        kind: What it came to.
        code: Why, if it was not hashed.
        size_bytes: Of its object, or as far as it is known.
    """

    file: str
    kind: Literal["hashed", "not_hashed", "passed_over"]
    size_bytes: int
    code: str = "-"


@dataclass(frozen=True, slots=True)
class Refusals:
    """Reports that the platform refused for good: how many, and what to tell of the first thousand."""

    count: int = 0
    messages: tuple[MessageReport, ...] = ()


@dataclass(slots=True, eq=False)
class _Write:
    """One thing to be written; `error` says why it was not."""

    arguments: tuple[str, ...]
    is_done: bool = False
    error: Exception | None = None


class _Writer:
    """Writes in one go, in order, what has gathered while the last write was under way.

    Args:
        write: Takes the arguments of all. It may come again with the same ones.
    """

    def __init__(self, write: Callable[[list[str]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: list[_Write] = []
        self._lock = asyncio.Lock()

    async def add(self, *arguments: str) -> None:
        mine = _Write(arguments)
        self._waiting.append(mine)
        async with self._lock:
            if not mine.is_done:
                batch, self._waiting = self._waiting, []
                await self._write_all(batch)
        if mine.error is not None:
            raise mine.error

    async def _write_all(self, batch: list[_Write]) -> None:
        error = None
        try:
            await self._write([argument for one in batch for argument in one.arguments])
        except asyncio.CancelledError:
            # Only one of them is cancelled: the others write again, also what may be there by now.
            self._waiting[:0] = batch
            raise
        except Exception as caught:  # noqa: BLE001 - each of them raises it
            error = caught
        for one in batch:
            one.is_done, one.error = True, error


class Outbox:
    """The outbox of one job, or of one batch.

    Args:
        redis: The broker's, with answers decoded; it waits for a broker that is away.
        name: The job's name in Redis, of `job_name`, or the batch's, of `batch_name`.
        address: Where its reports go, which whoever delivers its end has to know.
        fence: Who writes.

    Attributes:
        name: As given.
        is_ended: The end was put here, by this run.
    """

    def __init__(self, redis: Redis, name: str, address: JobAddress, fence: Fence) -> None:
        self._redis = redis
        self.name = name
        self._job = batch_named(name)[0]
        self._address = address
        self.fence = fence
        self.is_ended = False
        self._count = 0
        self._put_script = redis.register_script(PUT)
        self._accept_script = redis.register_script(ACCEPT)
        self._clear_script = redis.register_script(CLEAR)
        self._puts = _Writer(self._write_puts)
        self._accepts = _Writer(self._write_accepts)

    def __repr__(self) -> str:
        return f"<Outbox of {self.name}, {self._count} entries put>"

    async def put(self, *reports: Report, done: FileDone | None = None) -> Entry:
        """Keep reports; when this returns, no crash of ours loses them.

        Args:
            reports: In the order in which they are to be sent. With a `StatusReport` or an `EndOfBatch` among
                them they are the end, and the last that is ever put.
            done: The file that they are about, if this is all that is to be told of it.

        Raises:
            JobTakenOverError: Another run has the lease, or the end was put: nothing was kept.
        """
        self._count += 1
        entry = Entry(f"{self.fence.epoch}-{self._count}", reports)
        body = _REPORTS.dump_json(reports).decode()
        file, outcome = (done.file, f"{done.kind} {done.code} {done.size_bytes}") if done else ("", "")
        await self._puts.add(entry.id, body, file, outcome, _end_of(entry))
        return entry

    async def accept(self, entry: Entry, refused: Sequence[tuple[int, MessageReport]] = ()) -> None:
        """Forget an entry that the platform has dealt with; twice is fine.

        Args:
            entry: What was sent.
            refused: Which of its reports were refused for good, by their place in it, and what to tell of it.
        """
        refusals = [
            (f"{self.scope}:{entry.id}:{place}", _REPORTS.dump_json((message,)).decode())
            for place, message in refused
        ]
        await self._accepts.add(entry.id, json.dumps(refusals) if refusals else "")

    async def entries(self) -> list[Entry]:
        """Read what the platform does not have yet, the oldest first."""
        found = await self._redis.xrange(self._key("outbox"))
        return [Entry(id_, _REPORTS.validate_json(fields["reports"])) for id_, fields in found]

    async def is_empty(self) -> bool:
        """Tell whether the platform has all that was put."""
        return not await self._redis.xlen(self._key("outbox"))

    async def files(self) -> set[str]:
        """Read what names the files that are done, by this run and those before it."""
        return {name async for name, _ in self._redis.hscan_iter(self._key("files"), count=1000)}

    async def refusals(self) -> Refusals:
        """Read what the platform refused."""
        found = dict(await self._redis.hgetall(f"{self._job}:refused"))  # type: ignore[misc]  # redis types it for both its clients
        count = int(found.pop("count", 0))
        messages = [_REPORTS.validate_json(found[place])[0] for place in sorted(found, key=_in_order)]
        return Refusals(count, tuple(message for message in messages if isinstance(message, MessageReport)))

    async def discard(self) -> None:
        """Forget a job that is no longer to be told about, but for its ledger; unless another run has it."""
        await self._redis.eval(  # type: ignore[misc]  # as above
            DISCARD, len(self._job_keys), *self._job_keys, self.fence.token, END_KEPT_SECONDS
        )

    async def forget(self) -> None:
        """Forget what the platform does not have of a batch that it need not know about any more."""
        await self._redis.delete(self._key("outbox"))

    async def clear(self) -> bool:
        """Forget the job but for its end and its ledger, if it has ended and the platform has all of it.

        Returns:
            Whether that was so.
        """
        return bool(await self._clear_script(keys=self._job_keys, args=[self.fence.token, END_KEPT_SECONDS]))

    @property
    def scope(self) -> str:
        """What sets the entries apart from those of the job's other outboxes."""
        _, batch = batch_named(self.name)
        return f"{self._address.job_id}.{batch}" if batch else self._address.job_id

    @property
    def head(self) -> str:
        """Where to deliver; it holds the key, and is there no longer than the job."""
        key = self._address.key.get_secret_value()
        job_id = self._address.job_id
        return json.dumps({"api_url": self._address.api_url, "key": key, "job_id": job_id})

    @property
    def _job_keys(self) -> list[str]:
        whats = ("ledger", "end", "outbox", "lease", *KEPT_WHILE_IT_RUNS)
        return [UNDELIVERED, self._job, *(f"{self._job}:{what}" for what in whats)]

    def _key(self, what: str) -> str:
        return f"{self.name}:{what}"

    async def _write_puts(self, arguments: list[str]) -> None:
        keys = [
            *map(self._key, ("lease", "outbox", "files", "end", "attempts", "head")),
            UNDELIVERED,
            self.name,
            f"{self._job}:ledger",
        ]
        is_end = bool(arguments[-1])
        head = self.head if is_end else ""
        given = [self.fence.token, END_KEPT_SECONDS, head, *arguments]
        while (answer := await self._put_once(keys, given)) != "ok":
            # A broker that was away for long may have forgotten the lease before this reached it.
            if answer == "ended" or self.fence.is_sure:
                raise JobTakenOverError(f"Job {self._address.job_id} is {answer} by another run; this stops.")
        self.is_ended = self.is_ended or is_end

    async def _put_once(self, keys: list[str], arguments: list[Any]) -> str:
        await self.fence.confirm()
        return str(await self._put_script(keys=keys, args=arguments))

    async def _write_accepts(self, arguments: list[str]) -> None:
        keys = [self._key("outbox"), f"{self._job}:refused"]
        await self._accept_script(keys=keys, args=[str(_MOST_REFUSALS_KEPT), *arguments])


async def undelivered(redis: Redis) -> Mapping[str, JobAddress]:
    """Find the jobs and batches that have ended without their platform knowing, and where it is."""
    found = {}
    for name in await redis.smembers(UNDELIVERED):  # type: ignore[misc]  # redis types it for both its clients
        head = await redis.get(f"{name}:head")
        if head is None:
            continue
        try:
            fields = json.loads(head)
            found[name] = JobAddress(fields["api_url"], SecretStr(fields["key"]), fields["job_id"])
        except (ValueError, KeyError):
            _log.error("The head of an outbox can't be read", name=name)
    return found


def _end_of(entry: Entry) -> str:
    """Say what an end is remembered by: how it ended, and the entry; empty for what is no end."""
    for report in entry.reports:
        if isinstance(report, StatusReport):
            return f"{report.status} {entry.id}"
        if isinstance(report, EndOfBatch):
            return f"{'broken' if report.is_broken else 'done'} {entry.id}"
    return ""


def _in_order(place: str) -> tuple[int, ...]:
    """Sort by the batch, then by the place in its outbox."""
    scope, entry, index = place.rsplit(":", 2)
    batch = scope.rpartition(".")[2]
    return (int(batch) if batch.isdigit() else 0, *map(int, entry.split("-")), int(index))
