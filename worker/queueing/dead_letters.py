"""Dead letters: messages and jobs that were given up, kept in the broker until an operator decides.

One Redis hash holds them, a letter's number to its JSON. The transport's and the consumer's letters hold a
raw message, a job's letter its payload; both carry keys, and nothing here shows them.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import redis
import structlog
from kombu.exceptions import OperationalError

from worker.libsafe.names import BATCH_PREFIX, KEPT_OF_A_BATCH, KEPT_WHILE_IT_RUNS, UNDELIVERED
from worker.queueing.app import QUEUE, enqueue, make_app

DEAD = "hash-worker:dead"
LAST_NUMBER = "hash-worker:dead:last"

MOST_LETTERS = 10_000
"""Above it the oldest letter makes room, with a line in the log."""

# keep(letters, last, letter) adds a letter, JSON without its time, and gives its number and, if one had to
# make room, that one's. The clock is Redis' own, as for everything that workers compare.
KEEP = """
local function keep(letters, last, letter)
  local oldest = false
  if redis.call('HLEN', letters) >= %d then
    for _, number in ipairs(redis.call('HKEYS', letters)) do
      oldest = math.min(oldest or tonumber(number), tonumber(number))
    end
    redis.call('HDEL', letters, oldest)
  end
  local number = redis.call('INCR', last)
  local kept_at = redis.call('TIME')[1]
  redis.call('HSET', letters, number, '{"kept_at":' .. kept_at .. ',' .. string.sub(letter, 2))
  return {number, oldest}
end
""" % (MOST_LETTERS,)  # noqa: UP031  # Lua's braces would all be doubled

_KEEP = KEEP + "return keep(KEYS[1], KEYS[2], ARGV[1])"

# KEYS: letters, their last number, a job's ledger, what the intake answers. Of all its batches that are put
# aside only the first makes a letter, and nothing more of the job is sent until that is queued anew, or a
# payload of the job comes.
_PARK = (
    KEEP
    + """
if redis.call('EXISTS', KEYS[3]) == 0 or redis.call('HEXISTS', KEYS[3], 'parked') == 1 then return false end
local kept = keep(KEYS[1], KEYS[2], ARGV[1])
redis.call('HSET', KEYS[3], 'parked', kept[1])
redis.call('DEL', KEYS[4])
return kept
"""
)

# The message goes back to the end that is taken next. Both or nothing, so twice is harmless.
_PUT_BACK = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
return 1
"""

# KEYS: a job's attempts, end and outbox, the set of undelivered ends. ARGV: the job, 1 if it can be run.
# A job whose end waits in its outbox has only to be told of; any other one is to be run again.
_BEGIN_ANEW = """
if redis.call('EXISTS', KEYS[2], KEYS[3]) == 2 then
  redis.call('SADD', KEYS[4], ARGV[1])
elseif ARGV[2] == '1' then
  local ended = redis.call('GET', KEYS[2])
  if ended and string.find(ended, '^FAILED') then redis.call('DEL', KEYS[2]) end
else
  return 0
end
redis.call('DEL', KEYS[1])
return 1
"""

# KEYS: letters, the set of undelivered ends, a job's lease, its batches, its ledger, and what else goes with
# its letter.
# ARGV: letter, job, what the names of batches begin with, what goes with a batch.
# A job that a worker has, or whose end is still to be told, has not been given up.
_DROP = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 1 then return 1 end
local is_spread = redis.call('HEXISTS', KEYS[5], 'spread') == 1
if is_spread and redis.call('HEXISTS', KEYS[5], 'parked') == 0 then return 1 end
for _, batch in ipairs(redis.call('HKEYS', KEYS[4])) do
  local name = ARGV[3] .. batch .. ':' .. ARGV[2]
  redis.call('SREM', KEYS[2], name)
  for i = 4, #ARGV do redis.call('DEL', name .. ':' .. ARGV[i]) end
end
redis.call('DEL', unpack(KEYS, 4))
return 1
"""

# The key to the platform is in the head and in the payload. A job's end is known on, and the epoch never goes
# back.
_GONE_WITH_THE_LETTER = ("ledger", "task", *KEPT_WHILE_IT_RUNS)

_log = structlog.get_logger(__name__)


class NothingToQueueError(Exception):
    """A dead letter holds nothing that could be put on the queue; its text is one sentence."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """What was given up, and why.

    Attributes:
        id: Its number; empty until it is kept.
        kept_at: When, UTC, ISO 8601; empty until it is kept.
        reason: One sentence.
        task: The task's name, if the message told it.
        job_id: The job's id, if the payload told it.
        job: The job's name in Redis, for a job that was given up.
        payload: Its payload.
        message: The raw message, for one that could not be run.
    """

    reason: str
    task: str | None = None
    job_id: str | None = None
    job: str | None = None
    payload: dict[str, Any] | None = field(default=None, repr=False)
    message: str | None = field(default=None, repr=False)
    id: str = ""
    kept_at: str = ""

    def as_json(self) -> str:
        """Give what Redis keeps of a new letter."""
        told = {"reason": self.reason, "task": self.task, "job_id": self.job_id, "job": self.job}
        held = {"payload": self.payload, "message": self.message}
        return json.dumps({name: value for name, value in {**told, **held}.items() if value is not None})


class DeadLetters:
    """The letters in one broker, connected when first used. For any thread but an event loop's.

    Its methods raise `redis.exceptions.RedisError` if the broker is not there.

    Args:
        broker_url: Valkey or Redis with its password; with rediss:// the certificate is checked.
    """

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url

    def keep(self, letter: DeadLetter) -> str:
        """Keep a letter and log it; the oldest makes room if there are too many.

        Returns:
            The letter's id.
        """
        kept = self._client.eval(_KEEP, 2, DEAD, LAST_NUMBER, letter.as_json())
        if letter.job is not None:
            # Another payload of the job, with another key perhaps, is heard again.
            self._client.delete(f"{letter.job}:task")
        return log_kept(kept, letter.reason, letter.job_id)

    def park(self, letter: DeadLetter) -> None:
        """Keep a letter of a job that is spread, unless there is one, and have none of its batches sent.

        To queue the letter anew has the job go on where it stands.
        """
        keys = [DEAD, LAST_NUMBER, f"{letter.job}:ledger", f"{letter.job}:task"]
        kept = self._client.eval(_PARK, len(keys), *keys, letter.as_json())
        if kept:
            log_kept(kept, letter.reason, letter.job_id)

    def letters(self) -> list[DeadLetter]:
        """Give all letters, the oldest first."""
        kept: Any = self._client.hgetall(DEAD)
        return [_letter(number, kept[number]) for number in sorted(kept, key=int)]

    def requeue(self, letter_id: str) -> bool:
        """Put what a letter holds back on the queue, with its attempts forgotten, and drop the letter.

        The end of a job that could not be delivered is delivered again, with the key that it had.

        Returns:
            False if there is no such letter.

        Raises:
            NothingToQueueError: It holds no message, no payload and no end that waits; it is kept.
        """
        letter = self._find(letter_id)
        if letter is None:
            return False
        if letter.message is not None:
            message = letter.message.encode(errors="surrogateescape")
            return bool(self._client.eval(_PUT_BACK, 2, DEAD, QUEUE, letter_id, message))
        if not self._begin_anew(letter):
            raise NothingToQueueError(f"Dead letter {letter_id} holds nothing to queue; it is kept.")
        if letter.payload is not None:
            try:
                enqueue(make_app(self._broker_url), letter.payload)
            except OperationalError as error:
                raise redis.exceptions.ConnectionError("the broker did not take the payload") from error
        # Whoever has freed a parked job meanwhile has dropped it already.
        self._client.hdel(DEAD, letter_id)
        return True

    def drop(self, letter_id: str) -> bool:
        """Drop a letter for good, and what the broker has of its job, unless a worker still sees to that.

        Returns:
            False if there is no such letter.
        """
        letter = self._find(letter_id)
        if letter is None:
            return False
        if letter.job is None:
            return bool(self._client.hdel(DEAD, letter_id))
        whats = ("lease", "batches", *_GONE_WITH_THE_LETTER)
        keys = [DEAD, UNDELIVERED, *(f"{letter.job}:{what}" for what in whats)]
        given = [letter_id, letter.job, BATCH_PREFIX, *KEPT_OF_A_BATCH]
        return bool(self._client.eval(_DROP, len(keys), *keys, *given))

    def _find(self, letter_id: str) -> DeadLetter | None:
        text: Any = self._client.hget(DEAD, letter_id)
        return None if text is None else _letter(letter_id.encode(), text)

    def _begin_anew(self, letter: DeadLetter) -> bool:
        """Forget how a job ended, or have its end told; False if there is no payload and no such end."""
        can_be_run = letter.payload is not None
        if letter.job is None:
            return can_be_run
        keys = [*(f"{letter.job}:{what}" for what in ("attempts", "end", "outbox")), UNDELIVERED]
        return bool(self._client.eval(_BEGIN_ANEW, len(keys), *keys, letter.job, int(can_be_run)))

    @cached_property
    def _client(self) -> redis.Redis:
        client: redis.Redis = redis.Redis.from_url(
            self._broker_url, socket_timeout=15, socket_connect_timeout=5
        )
        return client


def log_kept(kept: Any, reason: str, job_id: str | None = None) -> str:
    """Log what `KEEP` answered.

    Returns:
        The letter's id.
    """
    number, made_room = kept
    _log.error("A dead letter was kept", letter=number, reason=reason, job_id=job_id)
    if made_room:
        _log.error("The oldest dead letter was dropped, there are too many", letter=made_room)
    return str(number)


def _letter(number: bytes, text: bytes) -> DeadLetter:
    # A raw message may be no UTF-8 at all; it must come out as it went in.
    stored = json.loads(text.decode(errors="surrogateescape"))
    kept_at = datetime.fromtimestamp(stored.pop("kept_at"), UTC).isoformat()
    return DeadLetter(**stored, id=number.decode(), kept_at=kept_at)
