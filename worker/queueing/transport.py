"""Redis as the broker, so that no message is lost between Redis and us.

kombu's own transport pops a message and notes it as unacknowledged in a second step; a worker that dies
between the two, or whose connection is cut, has lost it. Here a worker waits with a command that takes
nothing, then one script takes the message and notes it. All times are Redis' own, so that a worker with a
wrong clock does no harm.

It needs Redis or Valkey 6.2 (BLMOVE). kombu's option `global_keyprefix` and `basic_get` are not supported.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from queue import Empty
from time import monotonic
from typing import Any, Literal, NamedTuple

import redis
from kombu.transport import redis as redis_transport
from kombu.transport import virtual
from kombu.utils.json import loads

from worker.queueing.dead_letters import DEAD, LAST_NUMBER, DeadLetter, log_kept
from worker.queueing.scripts import CLAIM_OVERDUE, PUT_BACK, REFUSE, TAKE

MAX_MESSAGE_BYTES = 2 << 20
"""A longer message is kept as a dead letter; a payload has far less."""

# So many faulty messages are put aside in one go: a long queue of them must not hold up Redis.
_MOST_REFUSED = 100
# So many messages are delivered again in one sweep: each costs the worker's loop two round trips.
_MOST_RESTORED = 1000
# A wait that is over before it begins: Redis counts milliseconds.
_NO_WAIT_SECONDS = 0.001


class UnreadableMessageError(Exception):
    """A message is no envelope that kombu can open; its text is one sentence for the dead letter."""


class Taken(NamedTuple):
    """A message as it was taken: from which queue and which list of Redis, its bytes and its delivery tag."""

    queue: str
    list_name: str
    raw: bytes
    tag: str


class Message(virtual.Message):  # type: ignore[misc]  # kombu has no types
    """A message that was taken.

    Raises:
        UnreadableMessageError: It can't be opened, or it could be lost in kombu's restoring.
    """

    is_running = False
    """Whether a task of this process has it: it is not given back while that runs."""
    taken: Taken
    """What it is put back from."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        headers = payload.get("headers", {})
        delivery_info = payload["properties"].get("delivery_info", {})
        if not isinstance(headers, dict) or not isinstance(delivery_info, dict):
            raise UnreadableMessageError("Its headers or its delivery_info are no object.")
        if headers.get("compression"):
            # Its length says nothing about the memory that it needs.
            raise UnreadableMessageError("It is compressed, which is not supported.")
        try:
            super().__init__(payload, channel=channel, **options)
        except Exception as error:  # whatever it holds, it must not end the worker
            raise UnreadableMessageError(f"It can't be opened ({type(error).__name__}).") from error

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  # kombu's signature
        """Have the message deleted, or put back behind the others, even if the broker has lost it."""
        if not requeue:
            super().reject()
            return
        self.channel.put_back(self.taken, "LPUSH")
        self.channel.qos.let_go(self.delivery_tag)
        self._state = "REJECTED"


class QoS(redis_transport.QoS):  # type: ignore[misc]  # kombu has no types
    """Which messages this worker has taken and not acknowledged."""

    def append(self, message: Message, delivery_tag: str) -> None:
        """Remember a message; Redis has noted it already."""
        message.taken = self.channel.handed_over
        virtual.QoS.append(self, message, delivery_tag)

    def let_go(self, delivery_tag: str) -> None:
        """Free a message's place here and leave its note in Redis: it may be another worker's by now."""
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Give back what is not acknowledged when the connection is closed, but not what still runs.

        A task that runs on acknowledges later; its message given back would only make a copy.
        """
        for message in tuple(self._delivered.values()):
            if not message.is_running:
                self.channel.put_back(message.taken, "RPUSH", client)
        self._delivered.clear()

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:  # noqa: ARG002  # kombu's signature
        """Deliver again what nobody has renewed for the visibility timeout."""
        with self.channel.conn_or_acquire() as client:
            for tag in self.channel.claim_overdue(client):
                self.restore_by_tag(tag, client)


class Channel(redis_transport.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel whose messages are taken and noted in one step.

    Attributes:
        handed_over: The message that was taken last.
        has_place: Tells whether a queue's next message may be taken. A worker's consumer puts its own here.
        on_answer: Is called at each answer of the broker to the question for messages. As above.
    """

    QoS = QoS
    Message = Message
    handed_over: Taken

    def __init__(self, *args: Any, **options: Any) -> None:
        self.has_place: Callable[[str], bool] = lambda _: True
        self.on_answer: Callable[[], None] = lambda: None
        self._queues_without_ack: set[str] = set()
        self._has_served = False
        super().__init__(*args, **options)
        # A closed channel forgets its connection; see `_get_pool`.
        self._parameters = self._connparams()

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **options: Any) -> Any:  # noqa: FBT001  # kombu's signature
        """Consume from a queue."""
        if no_ack:
            self._queues_without_ack.add(queue)
        return super().basic_consume(queue, no_ack, *args, **options)

    @property
    def asks_for_messages(self) -> bool:
        """Whether the broker is to be asked: a worker may be full, or told to consume from no queue."""
        return self.qos.can_consume() and any(map(self.has_place, self.active_queues))

    def refuse(self, delivery_tag: str, letter: DeadLetter) -> None:
        """Keep a message as a dead letter, acknowledge it and log it, but nothing of what is in it.

        For any thread. If it was acknowledged meanwhile, as a copy of it, nothing is kept.
        """
        kept = self._refuse_script(keys=self._noted_keys, args=[delivery_tag, letter.as_json()])
        if kept:
            log_kept(kept, letter.reason, letter.job_id)
        self.qos.let_go(delivery_tag)

    def put_back(
        self, taken: Taken, push: Literal["LPUSH", "RPUSH"], client: redis.Redis | None = None
    ) -> None:
        """Put a message back on the list that it was taken from, behind the others or as the next one.

        It is the producer's own bytes, and it is put there also if the broker knows nothing of it any more.
        """
        keys = [self.unacked_key, self.unacked_index_key, taken.list_name]
        self._put_back_script(keys=keys, args=[taken.tag, taken.raw, push], client=client)

    def claim_overdue(self, client: redis.Redis) -> list[bytes]:
        """Give the tags of messages that are to be delivered again."""
        claim: Any = self._claim_script
        tags: list[bytes] = claim(
            keys=[self.unacked_index_key], args=[self.visibility_timeout, _MOST_RESTORED], client=client
        )
        return tags

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Begin to wait for a message; kombu's name, since its poller calls it.

        BLMOVE waits at one list only, that of the first queue which may be served; the others are looked at
        when it ends. After a message all are looked at once more without a wait: each may have the next one.
        """
        queue = next(filter(self.has_place, self.active_queues), None)
        if queue is None:
            return
        waits_at = self._q_for_pri(queue, self.priority_steps[0])
        seconds = _NO_WAIT_SECONDS if self._has_served else timeout or self.brpop_timeout
        self._has_served = False
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        # The last item moves to where it is.
        self.client.connection.send_command("BLMOVE", waits_at, waits_at, "RIGHT", "RIGHT", seconds)

    def _brpop_read(self, **options: Any) -> bool:
        """Take a message and deliver it. The wait is over, perhaps without one.

        Raises:
            Empty: There is none.
        """
        connection = self.client.connection
        try:
            if self._closing:
                # Nothing was taken, so there is nothing to read.
                connection.disconnect()
                raise Empty
            try:
                self.client.parse_response(connection, "BLMOVE", **options)
                self.on_answer()
                taken = self._take()
            except self.connection_errors:
                connection.disconnect()
                raise
        finally:
            self._in_poll = None
        if taken is None:
            raise Empty
        self._queue_cycle.rotate(taken.queue)
        self._hand_over(taken)
        return True

    def _get(self, queue: str) -> Any:
        raise NotImplementedError(f"messages of {queue} come by basic_consume only")

    def _lists(self) -> list[tuple[str, str]]:
        """Give each list's name in Redis and its queue, in the order in which they may be served."""
        queues = list(filter(self.has_place, self._queue_cycle.consume(len(self.active_queues))))
        return [(self._q_for_pri(queue, step), queue) for step in self.priority_steps for queue in queues]

    def _take(self) -> Taken | None:
        lists = self._lists()
        args: list[Any] = [MAX_MESSAGE_BYTES, _MOST_REFUSED]
        for _, queue in lists:
            args += [queue, int(queue not in self._queues_without_ack)]
        keys = [*self._noted_keys, *(name for name, _ in lists)]
        place, raw, tag, letters = self._take_script(keys=keys, args=args, client=self.client)
        for kept, reason in letters:
            log_kept(kept, reason.decode())
        if not place:
            return None
        self._has_served = True
        list_name, queue = lists[place - 1]
        return Taken(queue, list_name, raw, tag.decode())

    def _hand_over(self, taken: Taken) -> None:
        self.handed_over = taken
        try:
            self.connection._deliver(_opened(taken), taken.queue)  # noqa: SLF001  # as kombu's own channel does
        except UnreadableMessageError as error:
            # An answer to remote control has no tag, and can be done without.
            if taken.tag:
                self.refuse(taken.tag, DeadLetter(reason=str(error)))

    def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:  # noqa: FBT001, FBT002  # kombu's signature
        """Make a pool of connections, for a closed channel too: a task that ran on acknowledges there."""
        if self.connection is None or self.connection.client is None:
            return redis.ConnectionPool(**self._parameters)
        pool: redis.ConnectionPool = super()._get_pool(asynchronous)
        return pool

    @property
    def _noted_keys(self) -> Iterable[str]:
        return self.unacked_key, self.unacked_index_key, DEAD, LAST_NUMBER

    @cached_property
    def _take_script(self) -> Any:
        return self.client.register_script(TAKE)

    @cached_property
    def _refuse_script(self) -> Any:
        return self._create_client().register_script(REFUSE)

    @cached_property
    def _put_back_script(self) -> Any:
        return self._create_client().register_script(PUT_BACK)

    @cached_property
    def _claim_script(self) -> Any:
        return self._create_client().register_script(CLAIM_OVERDUE)


class Transport(redis_transport.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's Redis transport with our channel.

    Attributes:
        brpop_timeout: Seconds; a message in a list where nobody waits is found after so long. An idle worker
            asks Redis eight times a second.
    """

    Channel = Channel
    brpop_timeout = 0.25


def _opened(taken: Taken) -> Any:
    """Read the envelope; Python is stricter than the script that took it."""
    try:
        payload = loads(taken.raw)
        is_same = payload["properties"]["delivery_tag"] == taken.tag
    except Exception as error:  # whatever it holds, it must not end the worker
        raise UnreadableMessageError(f"It can't be opened ({type(error).__name__}).") from error
    if taken.tag and not is_same:
        raise UnreadableMessageError("It has two delivery tags.")
    return payload
