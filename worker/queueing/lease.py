"""The lease: a run's claim on its job or batch, in the broker's Redis, and the renewal of Celery's with it.

Copies of one message carry one delivery tag, so who has a job is told by a token of ours. The broker's clock
counts, not the worker's. A worker that was frozen, or cut off from the broker, finds out here that it has
lost its job, and until it knows it is not sure.

A lease is given only while there is room: so many runs over one container's files, and on one platform. A
room is a sorted set of the runs by the time when their leases end; a dead worker's run leaves by itself.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import structlog
from redis.asyncio import Redis

from worker import metrics
from worker.libsafe.errors import JobTakenOverError
from worker.libsafe.names import END_KEPT_SECONDS, batch_named

UNACKED = "unacked_index"
"""Celery's claims: message by the time of the last renewal."""

# So often in a lease's life it is renewed.
_RENEWALS = 4
# A worker that ends while the broker is away must not wait for it.
_GIVE_BACK_SECONDS = 5

# A call whose answer was lost is repeated and finds its own token: that is no second attempt.
# KEYS: lease, epoch, end, attempts, rooms. ARGV: token, milliseconds, seconds to keep, "run" or "", the
# most of each room.
# The epoch is below 0 once its lease was given back; one that is not was held by a run that died or froze.
_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {'', 'held', 0, 0} end
local ended = redis.call('GET', KEYS[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local runs = not ended and ARGV[4] == 'run'
for i = 5, runs and #KEYS or 4 do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[i]) and not redis.call('ZSCORE', KEYS[i], KEYS[1]) then
        return {'', 'full', 0, 0}
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 5, runs and #KEYS or 4 do
    redis.call('ZADD', KEYS[i], now + ARGV[2], KEYS[1])
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
local epoch = now
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if epoch <= math.abs(last) then epoch = math.abs(last) + 1 end
epoch = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], epoch, 'EX', ARGV[3])
local attempts = 0
if runs and not owner then
    attempts = redis.call('INCR', KEYS[4])
    redis.call('EXPIRE', KEYS[4], ARGV[3])
end
return {epoch, ended or '', attempts, (last > 0 and not owner) and 1 or 0}
"""
# A claim that is gone does not come back (XX).
# KEYS: lease, epoch, the job's epoch, Celery's claims, rooms. ARGV: token, milliseconds, epoch, tags.
# Of a batch that was settled nothing is kept, but of its job the epoch is.
_RENEW = """
local owner = redis.call('GET', KEYS[1])
if owner ~= ARGV[1] then
    if owner then return 'lost' end
    local last = redis.call('GET', KEYS[2])
    if redis.call('EXISTS', KEYS[3]) == 0 then return 'gone' end
    if last ~= ARGV[3] then return 'lost' end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = redis.call('TIME')
local seconds = string.format('%.6f', tonumber(now[1]) + tonumber(now[2]) / 1000000)
for i = 4, #ARGV do redis.call('ZADD', KEYS[4], 'XX', 'GT', seconds, ARGV[i]) end
for i = 5, #KEYS do
    redis.call('ZADD', KEYS[i], math.floor(tonumber(seconds) * 1000) + ARGV[2], KEYS[1])
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
return 'kept'
"""
# KEYS: lease, attempts, epoch, rooms. ARGV: token, "orderly" or "", epoch.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[3], '-' .. ARGV[3], 'XX', 'KEEPTTL')
for i = 4, #KEYS do redis.call('ZREM', KEYS[i], KEYS[1]) end
if ARGV[2] == 'orderly' and tonumber(redis.call('GET', KEYS[2]) or '0') > 0 then
    redis.call('DECR', KEYS[2])
end
return 1
"""

_log = structlog.get_logger(__name__)


class NotTaken(StrEnum):
    """Why a lease was not given."""

    HELD = "another worker has it."
    FULL = "as many tasks run for its container or its platform as the limits allow."


@dataclass(frozen=True, slots=True)
class Room:
    """A place for so many runs in all workers.

    Args:
        name: In Redis.
        most: Runs, count.
    """

    name: str
    most: int


@dataclass(slots=True, eq=False)
class Lease:
    """A lease that was taken; see `Leases`.

    Attributes:
        name: Of the job or the batch in Redis.
        token: Ours alone.
        epoch: When it was taken, in milliseconds of the broker's clock.
        ended: How the job or the batch ended before; empty if it did not.
        attempts: Runs that began and neither ended nor got a file done, this one included.
        rooms: Names of the rooms that the run takes a place in.
        tags: Celery's delivery tags of the messages that wait for this run.
        is_lost: Another run has the job, or the broker has lost what it knew of it.
        is_gone: The latter.
    """

    name: str
    token: str
    epoch: int
    ended: str
    attempts: int
    sure_until: float
    rooms: tuple[str, ...] = ()
    tags: set[str] = field(default_factory=set)
    is_lost: bool = False
    is_gone: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have the lease by now: it was renewed less than its time ago."""
        return not self.is_lost and asyncio.get_running_loop().time() < self.sure_until

    async def confirm(self) -> None:
        """Wait until it is sure; see `worker.libsafe.outbox.Fence`."""
        while not self.is_sure:
            if self.is_lost:
                raise JobTakenOverError("Another worker has the job now, or the broker has lost it.")
            self._news.clear()
            await self._news.wait()

    def note(self, state: str, sure_until: float) -> None:
        """Take note of what a renewal said."""
        self.is_lost = state != "kept"
        self.is_gone = state == "gone"
        self.sure_until = sure_until
        self._news.set()


class Leases:
    """Takes, keeps and gives back leases.

    Args:
        redis: The broker's, with answers decoded; it waits for a broker that is away.
        seconds: How long a lease lives without renewal.
    """

    def __init__(self, redis: Redis, seconds: float) -> None:
        self._seconds = seconds
        self._take_script = redis.register_script(_TAKE)
        self._renew_script = redis.register_script(_RENEW)
        self._release_script = redis.register_script(_RELEASE)

    def __repr__(self) -> str:
        return f"<Leases of {self._seconds:g} s>"

    async def take(self, name: str, *, rooms: Sequence[Room] = (), to_run: bool = True) -> Lease | NotTaken:
        """Take the lease of a job or a batch.

        Args:
            name: In Redis.
            rooms: Where there has to be room for the run.
            to_run: Counts as an attempt to bring it to its end.
        """
        token = secrets.token_hex(16)
        asked_at = asyncio.get_running_loop().time()
        names = tuple(room.name for room in rooms)
        epoch, ended, attempts, is_taken_over = await self._take_script(
            keys=[*(f"{name}:{what}" for what in ("lease", "epoch", "end", "attempts")), *names],
            args=[
                token,
                round(self._seconds * 1000),
                END_KEPT_SECONDS,
                "run" if to_run else "",
                *(room.most for room in rooms),
            ],
        )
        if not epoch:
            return NotTaken.FULL if ended == "full" else NotTaken.HELD
        if is_taken_over:
            metrics.TAKE_OVERS.inc()
        taken = names if to_run and not ended else ()
        sure_until = asked_at + self._seconds
        return Lease(name, token, int(epoch), ended.split(" ")[0], int(attempts), sure_until, taken)

    async def keep(self, lease: Lease, on_lost: Callable[[], None]) -> None:
        """Renew a lease until it is lost; to be cancelled when it is given back."""
        try:
            while not lease.is_lost:
                await asyncio.sleep(self._seconds / _RENEWALS)
                await self.renew(lease)
        except Exception:  # noqa: BLE001 - whoever waits to be sure must not wait for ever
            _log.exception("A lease can't be renewed", name=lease.name)
            lease.note("lost", 0)
        on_lost()

    async def renew(self, lease: Lease) -> None:
        """Renew a lease, and Celery's claims with it; afterwards it is sure, or known to be lost."""
        asked_at = asyncio.get_running_loop().time()
        state = await self._renew_script(
            keys=[
                f"{lease.name}:lease",
                f"{lease.name}:epoch",
                f"{batch_named(lease.name)[0]}:epoch",
                UNACKED,
                *lease.rooms,
            ],
            args=[lease.token, round(self._seconds * 1000), lease.epoch, *lease.tags],
        )
        lease.note(str(state), asked_at + self._seconds)
        if lease.is_lost:
            metrics.LEASES_LOST.inc()
            _log.warning("The lease is lost", name=lease.name, data_lost=lease.is_gone)

    async def give_back(self, lease: Lease, *, orderly: bool) -> None:
        """Give a lease back; one that is lost is left alone.

        Args:
            lease: Of `take`.
            orderly: The run has ended, or has decided not to go on: no attempt was lost.
        """
        if lease.is_lost:
            return
        try:
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                await self._release_script(
                    keys=[*(f"{lease.name}:{what}" for what in ("lease", "attempts", "epoch")), *lease.rooms],
                    args=[lease.token, "orderly" if orderly else "", lease.epoch],
                )
        except TimeoutError:
            _log.warning("A lease could not be given back, it ends by itself", name=lease.name)
