import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from redis.asyncio import Redis

from worker import metrics
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import (
    JobAddress,
    JobTakenOverError,
    NotAuthorizedError,
    NotFoundError,
    PlatformBusyError,
    RejectedError,
)
from worker.libsafe.models import JobStatus
from worker.libsafe.names import batch_name, job_name
from worker.libsafe.outbox import FileDone, Outbox, Refusals
from worker.libsafe.reports import (
    EndOfBatch,
    HashReport,
    MessageReport,
    Report,
    ReportPolicy,
    StatusReport,
)
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.queueing.lease import Lease, Leases

ADDRESS = JobAddress("http://platform", SecretStr("k"), "299")
JOB = job_name(ADDRESS)
BATCH = batch_name(JOB, 7)
END = (MessageReport("summary"), StatusReport(JobStatus.COMPLETED))
Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


class _Platform:
    """Keep what was told it, in the order of arrival.

    A text in `held` is answered when its event is set; a text in `answers` is answered with that status.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.keys: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.answers: dict[str, int] = {}
        self.underway = 0
        self.most_underway = 0
        self.arrived = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        text = str(body.get("message") or body.get("status") or body.get("hash"))
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        self.underway += 1
        self.most_underway = max(self.most_underway, self.underway)
        async with self.arrived:
            self.told.append(text)
            self.arrived.notify_all()
        if text in self.held:
            await self.held[text].wait()
        self.underway -= 1
        status = self.answers.get(text, 200)
        return web.json_response({"success": status == 200, "msg": f"answer {status}"}, status=status)

    async def has_been_told(self, count: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.told) >= count)


@pytest.fixture
def platform() -> _Platform:
    """Give a platform that accepts everything."""
    return _Platform()


@pytest.fixture
async def outbox(redis: Redis) -> Outbox:
    """Take the lease of job 299 and open its outbox."""
    lease = await Leases(redis, 60).take(JOB)
    assert isinstance(lease, Lease)
    return Outbox(redis, JOB, ADDRESS, lease)


@pytest.fixture
async def outbox_of_batch(redis: Redis) -> Outbox:
    """Take the lease of one of its batches and open that one's outbox."""
    lease = await Leases(redis, 60).take(BATCH)
    assert isinstance(lease, Lease)
    return Outbox(redis, BATCH, ADDRESS, lease)


@pytest.fixture
async def make_sender(
    platform: _Platform, serve: Serve, http: aiohttp.ClientSession, outbox: Outbox
) -> Callable[..., ReportSender]:
    """Make a sender to the platform; no report is tried twice."""
    url = await serve(platform.handle)
    client = PlatformClient(url, SecretStr("k"), Routes(), http, attempts=1)

    def made(**options: Any) -> ReportSender:
        return ReportSender(client, "299", options.pop("outbox", outbox), ReportPolicy(), **options)

    return made


def _outbox_reports() -> float:
    """Read how many reports are told as not sent yet."""
    return metrics.REGISTRY.get_sample_value("hash_worker_outbox_reports") or 0


def _messages(*texts: str) -> list[MessageReport]:
    return [MessageReport(text) for text in texts]


async def test_one_puts_reports_arrive_in_order_with_a_key_each(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """A file's messages stay together as the user expects them."""
    reports: list[Report] = [*_messages("a", "b"), HashReport("7", "md5", "00ff"), MessageReport("c")]

    async with make_sender() as sender:
        await sender.put(*reports, done=FileDone("7", "hashed", 3))
        await sender.finish()

    assert platform.told == ["a", "b", "00ff", "c"]
    assert platform.keys == [f"299:{outbox.fence.epoch}-1:{place}" for place in range(4)]
    assert await outbox.entries() == []
    assert await outbox.files() == {"7"}


async def test_no_two_reports_have_the_same_key(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """With the key of another report a platform would pass this one over."""
    async with make_sender() as sender:
        for number in range(10):
            await sender.put(*_messages(f"{number} a", f"{number} b"))
        await sender.finish()

    assert len(set(platform.keys)) == 20


async def test_what_was_not_sent_stays_in_the_outbox_and_the_next_sender_begins_with_it(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """A report that was put is told, whoever tells it, and under the key that it had."""
    platform.held["a"] = asyncio.Event()
    async with make_sender() as first:
        await first.put(*_messages("a", "b"))
        await platform.has_been_told(1)
    platform.held.clear()

    async with make_sender() as second:
        await second.put(MessageReport("c"))
        await second.finish()

    assert platform.told[:2] == ["a", "a"]
    assert set(platform.told[2:]) == {"b", "c"}
    assert platform.keys[0] == platform.keys[1]
    assert await outbox.entries() == []


async def test_nothing_put_is_nothing_told(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A job without a word has nothing to wait for; nor has one that waits twice."""
    async with make_sender() as sender:
        assert await sender.finish() is None
        assert await sender.finish() is None

    assert platform.told == []


async def test_a_slow_files_reports_do_not_hold_back_another_files(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Files know nothing of one another."""
    platform.held["slow 1"] = asyncio.Event()

    async with make_sender() as sender:
        await sender.put(*_messages("slow 1", "slow 2"))
        await sender.put(*_messages("quick 1", "quick 2"))
        await platform.has_been_told(3)
        assert set(platform.told) == {"slow 1", "quick 1", "quick 2"}
        platform.held["slow 1"].set()
        await sender.finish()

    assert platform.told[3] == "slow 2"


async def test_entries_on_their_way_are_bounded(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """The platform is not overrun by one job."""
    platform.held = {"0": asyncio.Event()}

    async with make_sender(concurrent_entries=3) as sender:
        for number in range(20):
            await sender.put(MessageReport(str(number)))
        await platform.has_been_told(20)
        platform.held["0"].set()
        await sender.finish()

    assert platform.most_underway <= 3


async def test_the_end_waits_for_all_before_it(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A job that has ended says nothing more, and what it said before has arrived."""
    release = platform.held["before 1"] = asyncio.Event()

    async with make_sender() as sender:
        await sender.put(MessageReport("before 1"))
        await sender.put(MessageReport("before 2"))
        await sender.put(*END)
        await platform.has_been_told(2)
        assert set(platform.told) == {"before 1", "before 2"}
        release.set()
        assert await sender.finish() is JobStatus.COMPLETED

    assert platform.told[2:] == ["summary", "COMPLETED"]


async def test_nothing_is_put_after_the_end(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A job ends once."""
    async with make_sender() as sender:
        await sender.put(*END)
        with pytest.raises(JobTakenOverError):
            await sender.put(MessageReport("after"))
        with pytest.raises(JobTakenOverError):
            await sender.put(*END)
        await sender.finish()

    assert platform.told == ["summary", "COMPLETED"]


async def test_of_a_batchs_end_the_platform_hears_what_was_said_with_it_and_nothing_else(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox_of_batch: Outbox
) -> None:
    """It knows of no batches; but why one was broken off has to be told, after all that came before."""
    release = platform.held["before"] = asyncio.Event()

    async with make_sender(outbox=outbox_of_batch) as sender:
        await sender.put(MessageReport("before"))
        await sender.put(MessageReport("why"), EndOfBatch(7, is_broken=True))
        await platform.has_been_told(1)
        assert platform.told == ["before"]
        release.set()
        assert await sender.finish() is None

    assert platform.told == ["before", "why"]
    epoch = outbox_of_batch.fence.epoch
    assert platform.keys == [f"299.7:{epoch}-1:0", f"299.7:{epoch}-2:0"]
    assert await outbox_of_batch.is_empty()


async def test_a_hash_that_was_refused_in_a_batch_is_told_at_the_jobs_end(
    platform: _Platform,
    make_sender: Callable[..., ReportSender],
    outbox: Outbox,
    outbox_of_batch: Outbox,
) -> None:
    """The batch itself ends as if nothing had been; the job is not COMPLETED."""
    platform.answers["00ff"] = 409
    async with make_sender(outbox=outbox_of_batch) as of_batch:
        await of_batch.put(HashReport("8", "md5", "00ff"), done=FileDone("8", "hashed", 3))
        await of_batch.put(EndOfBatch(7, is_broken=False))
        assert await of_batch.finish() is None
    assert platform.told == ["00ff"]

    async with make_sender(outbox=outbox) as of_job:
        await of_job.put(*END)
        assert await of_job.finish() is JobStatus.FAILED

    assert platform.told[1].startswith("ERROR: The md5 hash of file 8 was not stored: ")
    assert platform.told[2:] == ["summary The platform refused 1 report.", "FAILED"]


async def test_put_waits_while_the_queue_is_full(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A platform that is slower than the hashing must not fill the memory."""
    release = platform.held["1"] = asyncio.Event()

    async with make_sender(max_queued=2) as sender:
        await sender.put(*_messages("1", "2"))
        waiting = asyncio.create_task(sender.put(MessageReport("3")))
        await platform.has_been_told(1)
        assert not waiting.done()
        release.set()
        await waiting
        await sender.finish()

    assert platform.told == ["1", "2", "3"]


async def test_a_put_that_is_larger_than_the_queue_goes_through(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """The bound delays, it never blocks for good."""
    async with make_sender(max_queued=1) as sender:
        await sender.put(*_messages("1", "2", "3"))
        await sender.put(*_messages("4", "5"))
        await sender.finish()

    assert platform.told == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_refused_report_is_counted_and_the_others_go_on(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox, status: int
) -> None:
    """One message that the platform dislikes is no reason to lose the hashes."""
    platform.answers["b"] = status

    async with make_sender() as sender:
        await sender.put(*_messages("a", "b", "c"))
        await sender.finish()

    assert platform.told == ["a", "b", "c"]
    assert await outbox.refusals() == Refusals(1, (MessageReport(""),))
    assert await outbox.entries() == []


async def test_a_job_of_which_a_hash_was_refused_is_not_completed(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Whoever finds it COMPLETED relies on every hash being there; also after its worker died."""
    platform.answers["00ff"] = 409
    platform.answers["b"] = 400
    async with make_sender() as first:
        await first.put(HashReport("7", "md5", "00ff"), MessageReport("b"))
        await first.finish()

    async with make_sender() as second:
        await second.put(*END)
        assert await second.finish() is JobStatus.FAILED

    assert platform.told[2].startswith("ERROR: The md5 hash of file 7 was not stored: ")
    assert platform.told[3:] == ["summary The platform refused 2 reports.", "FAILED"]


async def test_an_end_of_a_job_that_the_platform_does_not_have_is_an_error(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """Somebody has to look at it; the end stays in the outbox."""
    platform.answers = {"summary": 404, "COMPLETED": 404, "None": 404}

    async with make_sender() as sender:
        await sender.put(*END)
        with pytest.raises(NotFoundError):
            await sender.finish()

    assert not await outbox.is_empty()


async def test_a_put_that_was_cut_short_and_kept_all_the_same_is_told_before_the_end(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """Nothing is told after the end."""
    async with make_sender() as sender:
        await outbox.put(MessageReport("kept"))
        await sender.put(*END)
        await sender.finish()

    assert platform.told == ["kept", "summary", "COMPLETED"]
    assert await outbox.clear()


async def test_a_refused_key_stops_the_sender(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """Nothing more can be told, and the job learns it at its next word; the reports stay."""
    platform.answers["a"] = 401
    sender = make_sender()

    async with sender:
        await sender.put(*_messages("a", "b"))
        with pytest.raises(NotAuthorizedError):
            await sender.finish()
        with pytest.raises(NotAuthorizedError):
            await sender.put(MessageReport("c"))

    assert platform.told == ["a"]
    assert repr(sender) == "<ReportSender of job 299 stopped by NotAuthorizedError, 0 queued>"
    assert [entry.reports for entry in await outbox.entries()] == [tuple(_messages("a", "b"))]


async def test_a_platform_that_is_away_at_the_end_leaves_the_rest_to_others(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """The client has tried as often as it may; a report is never skipped in silence."""
    platform.answers["a"] = 503

    async with make_sender() as sender:
        await sender.put(*_messages("a", "b"))
        with pytest.raises(PlatformBusyError):
            await sender.finish()

    assert set(platform.told) == {"a"}
    assert len(await outbox.entries()) == 1


async def test_while_the_job_goes_on_a_platform_that_is_away_is_waited_for(
    platform: _Platform, make_sender: Callable[..., ReportSender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing goes on meanwhile, and what it finds gathers in the outbox."""
    monkeypatch.setattr("worker.libsafe.sender._PAUSE_SECONDS", 0.01)
    platform.answers["a"] = 503

    async with make_sender() as sender:
        await sender.put(MessageReport("a"))
        await platform.has_been_told(3)
        await sender.put(MessageReport("b"))
        platform.answers.clear()
        await sender.finish()

    assert set(platform.told) == {"a", "b"}
    assert len(set(platform.keys)) == 2


async def test_a_run_that_has_lost_its_lease_sends_nothing_more(
    platform: _Platform, make_sender: Callable[..., ReportSender], outbox: Outbox
) -> None:
    """The job is another's now, also what this one had put before."""
    async with make_sender() as sender:
        assert isinstance(outbox.fence, Lease)
        await sender.put(MessageReport("a"))
        outbox.fence.note("lost", 0)
        with pytest.raises(JobTakenOverError):
            await sender.finish()
        with pytest.raises(JobTakenOverError):
            await sender.put(MessageReport("b"))

    assert platform.told == []


async def test_a_put_that_waits_for_room_learns_that_the_sender_has_stopped(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Nobody waits for a queue that nobody empties."""
    platform.answers["a"] = 401

    async def job() -> None:
        async with make_sender(max_queued=1) as sender:
            await sender.put(*_messages("a", "a"))
            await sender.put(MessageReport("b"))
            pytest.fail("the second put had no room")

    with pytest.raises(NotAuthorizedError):
        await job()


async def test_a_bug_in_sending_a_report_is_a_report_that_was_not_taken(
    platform: _Platform, make_sender: Callable[..., ReportSender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not hold up the end for ever; the text of the error, which may hold anything, is not sent."""
    sender = make_sender()

    async def broken(*_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(sender._client, "set_hash", broken)

    async with sender:
        await sender.put(HashReport("7", "md5", "00ff"))
        await sender.put(*END)
        assert await sender.finish() is JobStatus.FAILED

    assert "(KeyError)" in platform.told[0]
    assert "secret" not in str(platform.told)


async def test_a_hash_without_a_name_at_the_platform_is_not_sent(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Its digest stands in a message already."""
    async with make_sender() as sender:
        await sender.put(HashReport("7", "blake3", "aa"), HashReport("7", "sha1", "bb"))
        await sender.finish()

    assert platform.told == ["bb"]


async def test_leaving_by_an_exception_stops_sending_and_passes_it_on(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """The exception comes out as it was, at once, with no task left behind."""
    platform.held["a"] = asyncio.Event()
    tasks = asyncio.all_tasks()

    async def job() -> None:
        async with make_sender() as sender:
            await sender.put(*_messages("a", "b"))
            await platform.has_been_told(1)
            raise RejectedError("from the body")

    with pytest.raises(RejectedError, match="from the body"):
        await job()
    assert platform.told == ["a"]
    assert not [task for task in asyncio.all_tasks() - tasks if "reports of job" in task.get_name()]
    platform.held["a"].set()


async def test_a_cancelled_job_is_not_held_up_by_its_reports(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Cancellation while the sender waits for the platform goes through."""
    platform.held["a"] = asyncio.Event()

    async def job() -> None:
        async with make_sender() as sender:
            await sender.put(MessageReport("a"))
            await sender.finish()

    running = asyncio.create_task(job())
    await platform.has_been_told(1)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    platform.held["a"].set()


async def test_what_a_run_leaves_unsent_is_no_longer_told_as_its_own(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Wherever an entry is then: on its way, waiting for a permit or for its turn; another run sends it."""
    platform.held["a"] = asyncio.Event()

    async with make_sender(concurrent_entries=1) as sender:
        for text in "abcd":
            await sender.put(MessageReport(text))
        await platform.has_been_told(1)
        inside = _outbox_reports()

    assert (inside, _outbox_reports()) == (4, 0)
    platform.held["a"].set()


async def test_a_report_outside_the_context_is_an_error(make_sender: Callable[..., ReportSender]) -> None:
    """A report that nobody sends must not look as if it were sent."""
    sender = make_sender()
    with pytest.raises(RuntimeError):
        await sender.put(MessageReport("before"))
    async with sender:
        pass
    with pytest.raises(RuntimeError):
        await sender.put(MessageReport("after"))


async def test_a_sender_shows_its_state(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A repr is for logs and tests."""
    release = platform.held["b"] = asyncio.Event()

    async with make_sender() as sender:
        await sender.put(*_messages("a", "b"))
        await platform.has_been_told(2)

        assert repr(sender) == "<ReportSender of job 299 sending, 2 queued>"
        release.set()
