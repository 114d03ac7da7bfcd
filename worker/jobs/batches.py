"""The batches of a job that is spread over all workers, in the broker's Redis beside its ledger.

A batch waits, is sent, is settled, and then it is gone. Whatever changes one of these does so in one script,
together with the messages for Celery's queue, so that no death in between loses a batch or sends one that is
not there. A message may come twice; the batch's lease decides, and a settled batch is known by its absence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from worker.jobs.plan import Part
from worker.libsafe.errors import JobTakenOverError
from worker.libsafe.names import BATCH_PREFIX, KEPT_OF_A_BATCH, UNDELIVERED, batch_name
from worker.libsafe.outbox import Fence

PLANNING = 0
"""The batch that is no batch: the message of this number has the job planned."""

# send(batch) puts its message on the queue; release() sends the largest of those that wait, while fewer than
# `most` are sent. A job that is parked, since a key was refused, sends nothing.
_SENDING = """
local function send(batch)
    local template = redis.call('HGET', KEYS[7], 'template')
    redis.call('LPUSH', redis.call('HGET', KEYS[7], 'queue'), (string.gsub(template, '@BATCH@', batch)))
end
local function release(most)
    if redis.call('HEXISTS', KEYS[2], 'parked') == 1 then return end
    while redis.call('SCARD', KEYS[5]) < tonumber(most) do
        local largest = redis.call('ZPOPMAX', KEYS[4])
        if not largest[1] then return end
        redis.call('SADD', KEYS[5], largest[1])
        send(largest[1])
    end
end
local function close()
    local head = redis.call('HGET', KEYS[7], 'head')  -- gone with the job
    if head and redis.call('HLEN', KEYS[3]) == 0 and redis.call('HEXISTS', KEYS[2], 'planned') == 1 then
        redis.call('SET', KEYS[8], head)
        redis.call('SADD', KEYS[9], KEYS[10])
    end
end
"""
_FENCED = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'held' end\n"
# ARGV: token, document, template, queue, head, what the names of batches begin with, most sent, letters.
# A late copy of the payload may hold an older key; only a job that was parked needs another one.
_SPREAD = (
    _FENCED
    + _SENDING
    + """
local parked = redis.call('HGET', KEYS[2], 'parked')
if parked or redis.call('EXISTS', KEYS[7]) == 0 then
    redis.call('HSET', KEYS[7], 'document', ARGV[2], 'template', ARGV[3], 'queue', ARGV[4], 'head', ARGV[5])
end
redis.call('HSET', KEYS[2], 'spread', 1)
if parked then
    redis.call('HDEL', KEYS[2], 'parked')
    redis.call('HDEL', ARGV[8], parked)
end
for _, batch in ipairs(redis.call('SMEMBERS', KEYS[5])) do
    if redis.call('EXISTS', ARGV[6] .. batch .. ':' .. KEYS[10] .. ':lease') == 0 then send(batch) end
end
release(ARGV[7])
close()
return 'ok'
"""
)
# It looks at no lease.
_SEND_PLANNING = (
    _SENDING
    + """
local is_planned = redis.call('HEXISTS', KEYS[2], 'planned') == 1
if not is_planned and redis.call('HEXISTS', KEYS[7], 'template') == 1 then send('0') end
return 'ok'
"""
)
# ARGV: token, most sent, the cursor before, the new one, files, bytes, then code and count of what was passed
# over, "", and for each batch its number, bytes and part. It may come twice, when the answer to the first was
# lost, and then late; and the broker may have lost what the planner has added before.
_ADD = (
    _FENCED
    + _SENDING
    + """
if redis.call('HEXISTS', KEYS[2], 'cancelled') == 1 then return 'cancelled' end
local cursor = redis.call('HGET', KEYS[2], 'cursor') or ''
if cursor == ARGV[4] then return 'ok' end
if cursor ~= ARGV[3] then return 'held' end
redis.call('HSET', KEYS[2], 'cursor', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'files', ARGV[5])
redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[6])
local at = 7
while ARGV[at] ~= '' do
    redis.call('HINCRBY', KEYS[2], 'passed_over:' .. ARGV[at], ARGV[at + 1])
    at = at + 2
end
for i = at + 1, #ARGV, 3 do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 2])
    redis.call('ZADD', KEYS[4], ARGV[i + 1], ARGV[i])
    redis.call('HSET', KEYS[2], 'batches', ARGV[i])
end
redis.call('DEL', KEYS[11])
release(ARGV[2])
return 'ok'
"""
)
# ARGV: token, and the last cursor, if all was planned.
_PLANNED = (
    _FENCED
    + _SENDING
    + """
if ARGV[2] and (redis.call('HGET', KEYS[2], 'cursor') or '') ~= ARGV[2] then return 'held' end
redis.call('HSET', KEYS[2], 'planned', 1)
close()
return 'ok'
"""
)
# KEYS beside the usual, whose first is the batch's lease: the batch's outbox, what else is kept of it, as
# KEPT_OF_A_BATCH says, and the rooms that the run leaves: the next batch may be waiting for its place.
# ARGV: token, most sent, the batch's number, its name, 1 if it was broken off, keys that are kept of a batch.
_SETTLE = (
    _FENCED
    + _SENDING
    + """
if redis.call('XLEN', KEYS[12]) > 0 then return 'unsent' end
if redis.call('HDEL', KEYS[3], ARGV[3]) == 1 then
    redis.call('HINCRBY', KEYS[2], 'settled', 1)
    redis.call('HINCRBY', KEYS[2], 'broken', ARGV[5])
end
redis.call('SREM', KEYS[5], ARGV[3])
redis.call('HDEL', KEYS[6], ARGV[3])
redis.call('SREM', KEYS[9], ARGV[4])
local last = 11 + ARGV[6]
redis.call('DEL', unpack(KEYS, 12, last))
for i = last + 1, #KEYS do redis.call('ZREM', KEYS[i], KEYS[1]) end
release(ARGV[2])
close()
return 'ok'
"""
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some files of a job, to be taken by one task."""

    part: Part
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Planning:
    """How far a job is planned.

    Args:
        is_spread: It has batches, or is to have some; else it is run whole.
        is_planned: All of them are there.
        cursor: Where the planner goes on; empty at the beginning.
        batches: The number of the last batch.
    """

    is_spread: bool
    is_planned: bool
    cursor: str
    batches: int


@dataclass(frozen=True, slots=True)
class Sending:
    """What batches are put on the queue with.

    Args:
        document: The job's payload as JSON; it holds keys.
        template: A message, with `@BATCH@` where the batch's number belongs.
        queue: The list in Redis.
        letters: The hash of dead letters in Redis: that of a parked job goes when it is freed.
    """

    document: str = field(repr=False)
    template: str
    queue: str
    letters: str


class Batches:
    """The batches of one job.

    Args:
        redis: The broker's, with answers decoded.
        job: The job's name in Redis.
        most_sent: Batches of it on the queue and being run at the same time, in all workers.
    """

    def __init__(self, redis: Redis, job: str, *, most_sent: int) -> None:
        self._redis = redis
        self._job = job
        self._most_sent = most_sent

    def __repr__(self) -> str:
        return f"<Batches of {self._job}>"

    async def planning(self) -> Planning:
        """Read how far the job is planned."""
        names = ["spread", "planned", "cursor", "batches"]
        spread, planned, cursor, batches = await self._redis.hmget(self._key("ledger"), names)  # type: ignore[misc]  # redis types it for both its clients
        return Planning(spread is not None, planned is not None, cursor or "", int(batches or 0))

    async def spread(self, fence: Fence, sending: Sending, head: str) -> None:
        """Have the job run in batches; again, have it go on where it stands. See `send_planning`.

        What was sent and nobody runs is sent again: the job may have been parked, or its messages lost.

        Args:
            fence: The job's lease.
            sending: Its payload counts for a job that was parked, and else the first one.
            head: Where the job's end is delivered, of `Outbox.head`.

        Raises:
            JobTakenOverError: Another run has the job's lease.
        """
        given = [sending.document, sending.template, sending.queue, head]
        await self._run(_SPREAD, fence, [*given, BATCH_PREFIX, self._most_sent, sending.letters])

    async def send_planning(self) -> None:
        """Have the job planned, if it is not.

        To be called when the job's lease is given back: whoever takes the message would find it held.
        """
        keys = self._keys(self._key("lease"))
        await self._redis.eval(_SEND_PLANNING, len(keys), *keys)  # type: ignore[misc]  # as above

    async def is_to_be_ended(self) -> bool:
        """Tell whether all its batches are settled, and nobody has ended it."""
        return bool(await self._redis.sismember(UNDELIVERED, self._job))  # type: ignore[misc]  # as above

    async def document(self) -> str | None:
        """Give the payload of a job that is spread; None if it is over."""
        document: str | None = await self._redis.hget(self._key("payload"), "document")  # type: ignore[misc]  # as above
        return document

    async def add(
        self,
        fence: Fence,
        first: int,
        batches: Sequence[Batch],
        *,
        previous: str,
        cursor: str,
        passed_over: Mapping[str, int],
    ) -> bool:
        """Add batches, and send as many as may be sent.

        Args:
            fence: The job's lease.
            first: The number of the first, one more than the last that was added.
            batches: What was planned since then.
            previous: The cursor of the call before, empty at the first.
            cursor: Where a planner that follows goes on; another one with each call.
            passed_over: Files since then that nobody wants hashed, by the code of the reason.

        Returns:
            False if the job was cancelled: nothing was added.

        Raises:
            JobTakenOverError: Another run has the job's lease, or the broker has lost the call before.
        """
        files = sum(batch.files for batch in batches)
        size_bytes = sum(batch.size_bytes for batch in batches)
        counts: list[Any] = [argument for pair in passed_over.items() for argument in pair]
        added: list[Any] = []
        for number, batch in enumerate(batches, first):
            added += [number, batch.size_bytes, batch.part.as_json()]
        given = [self._most_sent, previous, cursor, files, size_bytes, *counts, "", *added]
        return await self._run(_ADD, fence, given) == "ok"

    async def finish_planning(self, fence: Fence, cursor: str | None = None) -> None:
        """Say that all batches are there, or all that will be; again is fine.

        Args:
            fence: The job's lease.
            cursor: Of the last call of `add`; None if the job is ended before all is planned.

        Raises:
            JobTakenOverError: Another run has the job's lease, or the broker has lost the last call.
        """
        await self._run(_PLANNED, fence, [] if cursor is None else [cursor])

    async def part(self, batch: int) -> Part | None:
        """Give the files of a batch; None if it is settled, or the job is over."""
        text = await self._redis.hget(self._key("batches"), str(batch))  # type: ignore[misc]  # as above
        return None if text is None else Part.from_json(text)

    async def settle(self, fence: Fence, batch: int, *, is_broken: bool) -> None:
        """Say that a batch is done and the platform has its reports; again is fine.

        Args:
            fence: The batch's lease.
            batch: Its number.
            is_broken: It was broken off.

        Raises:
            JobTakenOverError: Another run has the batch's lease, or its outbox is not empty.
        """
        name = batch_name(self._job, batch)
        more = [*(f"{name}:{what}" for what in KEPT_OF_A_BATCH), *fence.rooms]
        given = [self._most_sent, batch, name, int(is_broken), len(KEPT_OF_A_BATCH)]
        await self._run(_SETTLE, fence, given, lease=f"{name}:lease", more=more)

    async def _run(
        self, script: str, fence: Fence, given: Sequence[Any], *, lease: str = "", more: Sequence[str] = ()
    ) -> str:
        keys = [*self._keys(lease or self._key("lease")), *more]
        await fence.confirm()
        answer = await self._redis.eval(script, len(keys), *keys, fence.token, *given)  # type: ignore[misc]  # as above
        if answer in {"held", "unsent"}:
            raise JobTakenOverError(f"{self._job} is {answer} by another run; this one stops.")
        return str(answer)

    def _keys(self, lease: str) -> list[str]:
        """Give the keys of all scripts: 1 a lease, 2 the ledger, and so on to 11, the job's attempts."""
        whats = ("ledger", "batches", "waiting", "sent", "moving", "payload", "head")
        return [lease, *map(self._key, whats), UNDELIVERED, self._job, self._key("attempts")]

    def _key(self, what: str) -> str:
        return f"{self._job}:{what}"
