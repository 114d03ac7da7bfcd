"""The lease: a run's claim on its job, in the broker's Redis, and the renewal of Celery's own claim with it.

Copies of one message carry one delivery tag, so who has a job is told by a token of ours. The broker's clock
counts, not the worker's. A worker that was frozen, or cut off from the broker, finds out here that it has
lost its job, and until it knows it is not sure.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis

from worker.libsafe.errors import JobTakenOverError
from worker.libsafe.models import JobStatus
from worker.libsafe.outbox import END_KEPT_SECONDS

# Celery's claims: message by the time of the last renewal. A member that is gone does not come back (XX).
_UNACKED = "unacked_index"
# So often in a lease's life it is renewed.
_RENEWALS = 4
# A worker that ends while the broker is away must not wait for it.
_GIVE_BACK_SECONDS = 5

# A call whose answer was lost is repeated and finds its own token: that is no second attempt.
_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {'', '', 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = redis.call('TIME')
local epoch = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if epoch <= last then epoch = last + 1 end
epoch = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], epoch, 'EX', ARGV[3])
local ended = redis.call('GET', KEYS[3])
local attempts = 0
if not ended and not owner and ARGV[4] == 'run' then
    attempts = redis.call('INCR', KEYS[4])
    redis.call('EXPIRE', KEYS[4], ARGV[3])
end
return {epoch, ended or '', attempts}
"""
_RENEW = """
local owner = redis.call('GET', KEYS[1])
if owner ~= ARGV[1] then
    if owner then return 'lost' end
    local last = redis.call('GET', KEYS[2])
    if not last then return 'gone' end
    if last ~= ARGV[3] then return 'lost' end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = redis.call('TIME')
local seconds = string.format('%.6f', tonumber(now[1]) + tonumber(now[2]) / 1000000)
for i = 4, #ARGV do redis.call('ZADD', KEYS[3], 'XX', 'GT', seconds, ARGV[i]) end
return 'kept'
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] == 'orderly' and tonumber(redis.call('GET', KEYS[2]) or '0') > 0 then
    redis.call('DECR', KEYS[2])
end
return 1
"""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Lease:
    """A lease that was taken; see `Leases`.

    Attributes:
        job: The job's name in Redis.
        token: Ours alone.
        epoch: When it was taken, in milliseconds of the broker's clock.
        ended: How the job ended before, if it did.
        attempts: Runs of the job that began and neither ended nor got a file done, this one included.
        tags: Celery's delivery tags of the messages that wait for this run.
        is_lost: Another run has the job, or the broker has lost what it knew of it.
        is_gone: The latter.
    """

    job: str
    token: str
    epoch: int
    ended: JobStatus | None
    attempts: int
    sure_until: float
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

    async def take(self, job: str, *, to_run: bool = True) -> Lease | None:
        """Take a job's lease; None if another run has it.

        Args:
            job: The job's name in Redis.
            to_run: Counts as an attempt to bring the job to its end.
        """
        token = secrets.token_hex(16)
        asked_at = asyncio.get_running_loop().time()
        epoch, ended, attempts = await self._take_script(
            keys=[f"{job}:{what}" for what in ("lease", "epoch", "end", "attempts")],
            args=[token, round(self._seconds * 1000), END_KEPT_SECONDS, "run" if to_run else ""],
        )
        if not epoch:
            return None
        status = JobStatus(ended.split(" ")[0]) if ended else None
        return Lease(job, token, int(epoch), status, int(attempts), asked_at + self._seconds)

    async def keep(self, lease: Lease, on_lost: Callable[[], None]) -> None:
        """Renew a lease until it is lost; to be cancelled when it is given back."""
        try:
            while not lease.is_lost:
                await asyncio.sleep(self._seconds / _RENEWALS)
                await self.renew(lease)
        except Exception:  # noqa: BLE001 - whoever waits to be sure must not wait for ever
            _log.exception("A lease can't be renewed", job=lease.job)
            lease.note("lost", 0)
        on_lost()

    async def renew(self, lease: Lease) -> None:
        """Renew a lease, and Celery's claims with it; afterwards it is sure, or known to be lost."""
        asked_at = asyncio.get_running_loop().time()
        state = await self._renew_script(
            keys=[f"{lease.job}:lease", f"{lease.job}:epoch", _UNACKED],
            args=[lease.token, round(self._seconds * 1000), lease.epoch, *lease.tags],
        )
        lease.note(str(state), asked_at + self._seconds)
        if lease.is_lost:
            _log.warning("The lease is lost", job=lease.job, data_lost=lease.is_gone)

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
                    keys=[f"{lease.job}:lease", f"{lease.job}:attempts"],
                    args=[lease.token, "orderly" if orderly else ""],
                )
        except TimeoutError:
            _log.warning("A lease could not be given back, it ends by itself", job=lease.job)
