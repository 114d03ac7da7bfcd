"""The ledger: a job's progress over all its batches, in the broker's Redis.

It counts. What a file came to is counted in the very script that puts its reports into the outbox, so each
file once, whatever dies. All times are Redis' own. It is kept for 30 days after the job's end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from worker.libsafe.names import END_KEPT_SECONDS, JOB_PREFIX

_NAMED = "hash-worker:named:"
# Not more often than each of these is a job's progress told to the platform: 20 messages for the longest job.
_TELL_SECONDS = 10
_TELL_SHARE = 0.05

_NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""
# KEYS: ledger, moving. A ledger that is over is of an earlier life. It is kept as long as the job takes.
_BEGIN = (
    _NOW
    + """
if redis.call('HEXISTS', KEYS[1], 'over') == 1 then redis.call('DEL', unpack(KEYS)) end
redis.call('HSETNX', KEYS[1], 'started', now)
redis.call('PERSIST', KEYS[1])
"""
)
# A run that was frozen may come late: the one after it may have spread the job.
_SET_TOTALS = """
if redis.call('HEXISTS', KEYS[1], 'spread') == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
"""
# KEYS: ledger, moving, batches. ARGV: the batch, bytes moving in it, seconds and share between two tellings.
_TICK = (
    _NOW
    + """
if redis.call('HEXISTS', KEYS[1], 'started') == 0 or redis.call('HEXISTS', KEYS[1], 'over') == 1 then
    return {0, {}, 0, ''}
end
if ARGV[1] == '0' or redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
local function number(name) return tonumber(redis.call('HGET', KEYS[1], name) or '0') end
local moving = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[2])) do moving = moving + bytes end
local tell = 0
if redis.call('HEXISTS', KEYS[1], 'planned') == 1 then
    local share = 0
    if number('bytes') > 0 then share = (number('done_bytes') + moving) / number('bytes')
    elseif number('files') > 0 then share = number('done_files') / number('files') end
    local told_at = number('told_at')
    if told_at == 0 then told_at = number('started') end
    if now - told_at >= tonumber(ARGV[3]) and share - number('told_share') >= tonumber(ARGV[4]) then
        redis.call('HSET', KEYS[1], 'told_at', now, 'told_share', share)
        tell = 1
    end
end
return {tell, redis.call('HGETALL', KEYS[1]), moving, tostring(now)}
"""
)
# KEYS: ledger, end, moving.
_SNAPSHOT = (
    _NOW
    + """
local moving = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[3])) do moving = moving + bytes end
return {redis.call('GET', KEYS[2]) or '', redis.call('HGETALL', KEYS[1]), moving, tostring(now)}
"""
)
# KEYS: ledger, end, batches, waiting, sent. ARGV: the reason, seconds to keep, "left" or "".
# Of a hundred thousand batches only those that are sent are looked at.
_CANCEL = """
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('HEXISTS', KEYS[1], 'over') == 1 then return 0 end
if redis.call('HSETNX', KEYS[1], 'cancelled', ARGV[1]) == 1 and ARGV[3] == 'left' then
    redis.call('HSET', KEYS[1], 'left', 1)
end
if redis.call('HEXISTS', KEYS[1], 'started') == 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
local sent = {}
for _, batch in ipairs(redis.call('SMEMBERS', KEYS[5])) do
    local part = redis.call('HGET', KEYS[3], batch)
    if part then sent[#sent + 1] = {batch, part} end
end
redis.call('UNLINK', KEYS[3], KEYS[4])
for _, kept in ipairs(sent) do redis.call('HSET', KEYS[3], kept[1], kept[2]) end
return 1
"""


_NOTE_NAME = """
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class JobState(StrEnum):
    """Where a job stands, as the ledger knows it."""

    WAITING = "WAITING"
    """Nobody has begun it."""
    RUNNING = "RUNNING"
    """It has begun; its platform may not know of its end yet."""
    COMPLETED = "COMPLETED"
    """As on the platform."""
    FAILED = "FAILED"
    """As on the platform."""
    LEFT = "LEFT"
    """The platform has ended it by itself."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job's progress at one moment.

    Args:
        state: Where it stands.
        files: In all; what is known so far while it is being planned.
        size_bytes: Of them, as the platform's records say.
        is_planned: Those two are known.
        done_files: Hashed, or told why not.
        done_bytes: Of those, and of the ones under way.
        hashed_files: With all their digests.
        hashed_bytes: In them.
        not_hashed: Files without digests, by the code of the reason.
        passed_over: Files that nobody wants hashed, by the code of the reason.
        batches: Added so far; 0 for a job that is run whole.
        settled_batches: Done, and the platform knows.
        broken_batches: Of those, that were broken off.
        seconds: Since it began; 0 before.
        cancelled: Why it is to end, empty if it is not.
        is_left: The platform has ended it: it is told nothing more.
        is_parked: It waits for somebody to see to its dead letter.
    """

    state: JobState = JobState.WAITING
    files: int = 0
    size_bytes: int = 0
    is_planned: bool = False
    done_files: int = 0
    done_bytes: int = 0
    hashed_files: int = 0
    hashed_bytes: int = 0
    not_hashed: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    batches: int = 0
    settled_batches: int = 0
    broken_batches: int = 0
    seconds: float = 0.0
    cancelled: str = ""
    is_left: bool = False
    is_parked: bool = False

    @property
    def share(self) -> float | None:
        """How much of it is done, 0 to 1, by bytes; None before it is planned."""
        if self.state is JobState.COMPLETED:
            return 1.0
        if not self.is_planned:
            return None
        if self.size_bytes:
            return min(1.0, self.done_bytes / self.size_bytes)
        return min(1.0, self.done_files / self.files) if self.files else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Its rate since it began."""
        return self.done_bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long it will take if it goes on as it did; None where that can't be told."""
        if self.state is not JobState.RUNNING or not self.share:
            return None
        return self.seconds * (1 - self.share) / self.share

    def as_json(self) -> dict[str, Any]:
        """Give it as the gateway and `hash-worker status --json` show it."""
        return {
            "state": self.state,
            "files": {
                "total": self.files if self.is_planned else None,
                "done": self.done_files,
                "hashed": self.hashed_files,
                "not_hashed": dict(self.not_hashed),
                "passed_over": dict(self.passed_over),
            },
            "bytes": {"total": self.size_bytes if self.is_planned else None, "done": self.done_bytes},
            "batches": {
                "total": self.batches,
                "settled": self.settled_batches,
                "broken": self.broken_batches,
            },
            "share": self.share,
            "bytes_per_second": round(self.bytes_per_second),
            "seconds": round(self.seconds, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "cancelled": self.cancelled or None,
            "is_parked": self.is_parked,
        }


class Ledger:
    """The ledger of one job.

    Args:
        redis: The broker's, with answers decoded.
        job: The job's name in Redis.
    """

    def __init__(self, redis: Redis, job: str) -> None:
        self._redis = redis
        self.job = job

    def __repr__(self) -> str:
        return f"<Ledger of {self.job}>"

    async def begin(self) -> None:
        """Take note that the job has begun; again is fine. What is left of an earlier life is forgotten."""
        keys = [self._key("ledger"), self._key("moving")]
        await self._redis.eval(_BEGIN, len(keys), *keys)  # type: ignore[misc]  # redis types it for both its clients
        await self.note_name()

    async def note_name(self) -> None:
        """Have the job found by its id."""
        await note_name(self._redis, self.job)

    async def set_totals(self, *, files: int, size_bytes: int, passed_over: Mapping[str, int]) -> None:
        """Say what a job that is run whole consists of."""
        counts = {f"passed_over:{code}": count for code, count in passed_over.items()}
        fields: dict[str, str | int] = {"files": files, "bytes": size_bytes, "planned": 1, **counts}
        given: list[str | int] = [argument for pair in fields.items() for argument in pair]
        await self._redis.eval(_SET_TOTALS, 1, self._key("ledger"), *given)  # type: ignore[misc]  # as above

    async def tick(self, batch: int, moving_bytes: int) -> tuple[Snapshot | None, bool]:
        """Say how far the files under way are.

        Args:
            batch: Whose; 0 for a job that is run whole.
            moving_bytes: Read of files that are not done.

        Returns:
            The job's progress, None if it is over; and whether the caller is to tell the platform.
        """
        keys = [self._key("ledger"), self._key("moving"), self._key("batches")]
        tell, pairs, moving, now = await self._redis.eval(  # type: ignore[misc]  # as above
            _TICK, len(keys), *keys, batch, moving_bytes, _TELL_SECONDS, _TELL_SHARE
        )
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return (_snapshot("", fields, int(moving), float(now)) if fields else None), bool(tell)

    async def snapshot(self) -> Snapshot | None:
        """Read the job's progress; None if nothing is known of the job."""
        keys = [self._key("ledger"), self._key("end"), self._key("moving")]
        ended, pairs, moving, now = await self._redis.eval(_SNAPSHOT, len(keys), *keys)  # type: ignore[misc]  # as above
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if not fields and not ended:
            return None
        return _snapshot(ended, fields, int(moving), float(now))

    async def cancel(self, reason: str) -> bool:
        """Have the job end FAILED soon; of two reasons the first counts.

        Args:
            reason: A sentence's end, for the job's users.

        Returns:
            False if it has ended already.
        """
        return await self._cancel(reason)

    async def is_parked(self) -> bool:
        """Tell whether nothing more of it is sent, until its dead letter is queued anew."""
        return bool(await self._redis.hexists(self._key("ledger"), "parked"))  # type: ignore[misc]  # as above

    async def leave(self) -> None:
        """Have the job end without another word: the platform has ended it."""
        await self._cancel("the platform has ended it.", "left")

    async def cancelled(self) -> str:
        """Tell why the job is to end; empty if it is not."""
        return await self._redis.hget(self._key("ledger"), "cancelled") or ""  # type: ignore[misc]  # as above

    async def _cancel(self, reason: str, left: str = "") -> bool:
        keys = [self._key(what) for what in ("ledger", "end", "batches", "waiting", "sent")]
        given: list[str | int] = [reason, END_KEPT_SECONDS, left]
        return bool(await self._redis.eval(_CANCEL, len(keys), *keys, *given))  # type: ignore[misc]  # as above

    def _key(self, what: str) -> str:
        return f"{self.job}:{what}"


async def note_name(redis: Redis, job: str) -> None:
    """Have a job found by its id, for as long as its end is remembered."""
    key = _NAMED + job.removeprefix(JOB_PREFIX).rpartition("/job/")[2]
    await redis.eval(_NOTE_NAME, 1, key, job, END_KEPT_SECONDS)  # type: ignore[misc]  # as above


async def jobs_named(redis: Redis, job_id: str) -> list[str]:
    """Find the names of jobs with this id: none, one, or one of each platform that has it."""
    names: set[str] = await redis.smembers(_NAMED + job_id)  # type: ignore[misc]  # as above
    return sorted(names)


def platform_of(job: str) -> str:
    """Tell the platform's address from a job's name."""
    return job.removeprefix(JOB_PREFIX).rpartition("/job/")[0]


def _snapshot(ended: str, fields: Mapping[str, str], moving_bytes: int, now: float) -> Snapshot:
    def number(name: str) -> int:
        return int(fields.get(name, 0))

    def by_code(kind: str) -> dict[str, int]:
        prefix = f"{kind}:"
        return {
            name.removeprefix(prefix): int(count)
            for name, count in sorted(fields.items())
            if name.startswith(prefix)
        }

    started = float(fields.get("started", 0))
    over_at = float(fields.get("over_at", now))
    return Snapshot(
        state=_state(ended, fields),
        files=number("files"),
        size_bytes=number("bytes"),
        is_planned="planned" in fields,
        done_files=number("done_files"),
        done_bytes=number("done_bytes") + moving_bytes,
        hashed_files=number("hashed_files"),
        hashed_bytes=number("hashed_bytes"),
        not_hashed=by_code("not_hashed"),
        passed_over=by_code("passed_over"),
        batches=number("batches"),
        settled_batches=number("settled"),
        broken_batches=number("broken"),
        seconds=over_at - started if started else 0.0,
        cancelled=fields.get("cancelled", ""),
        is_left="left" in fields,
        is_parked="parked" in fields,
    )


def _state(ended: str, fields: Mapping[str, str]) -> JobState:
    # An end that was put is not the platform's before the job is over.
    status = fields.get("over") or ("" if fields else ended.split(" ", maxsplit=1)[0])
    if status in {*JobState}:
        return JobState(status)
    return JobState.RUNNING if "started" in fields else JobState.WAITING
