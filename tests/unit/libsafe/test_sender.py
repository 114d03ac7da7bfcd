import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import NotAuthorizedError, PlatformBusyError, RejectedError
from worker.libsafe.models import JobStatus
from worker.libsafe.reports import HashReport, MessageReport, ReportPolicy, StatusReport
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender

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
        body = await request.json()
        text = str(body.get("message") or body.get("status") or body.get("hash"))
        self.keys.append(request.headers["Idempotency-Key"])
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
async def make_sender(
    platform: _Platform, serve: Serve, http: aiohttp.ClientSession
) -> Callable[..., ReportSender]:
    """Make a sender to the platform; no report is tried twice."""
    url = await serve(platform.handle)
    client = PlatformClient(url, SecretStr("k"), Routes(), http, attempts=1)

    def made(**options: Any) -> ReportSender:
        return ReportSender(client, "299", ReportPolicy(), token="run", **options)

    return made


def _messages(*texts: str) -> list[MessageReport]:
    return [MessageReport(text) for text in texts]


async def test_one_puts_reports_arrive_in_order_with_a_key_each(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A file's messages stay together as the user expects them."""
    async with make_sender() as sender:
        await sender.put(*_messages("a", "b"), HashReport("7", "md5", "00ff"), MessageReport("c"))
        await sender.flush()

        assert platform.told == ["a", "b", "00ff", "c"]
        assert platform.keys == ["299:run:0", "299:run:1", "299:run:2", "299:run:3"]
        assert sender.rejected == []


async def test_no_two_reports_of_a_run_have_the_same_key(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """With the key of another report a platform would pass this one over."""
    async with make_sender() as sender:
        for number in range(10):
            await sender.put(*_messages(f"{number} a", f"{number} b"))

    assert sorted(platform.keys) == sorted(f"299:run:{sequence}" for sequence in range(20))


async def test_leaving_sends_what_is_left(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A report that was put is sent, flushed or not."""
    async with make_sender() as sender:
        await sender.put(MessageReport("a"))

    assert platform.told == ["a"]


async def test_no_reports_are_nothing(platform: _Platform, make_sender: Callable[..., ReportSender]) -> None:
    """An empty put and an empty flush do nothing."""
    async with make_sender() as sender:
        await sender.put()
        await sender.flush()
        await sender.flush()

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

    assert platform.told[3] == "slow 2"


async def test_groups_on_their_way_are_bounded(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """The platform is not overrun by one job."""
    platform.held = {"0": asyncio.Event()}

    async with make_sender(concurrent_groups=3) as sender:
        for number in range(20):
            await sender.put(MessageReport(str(number)))
        await platform.has_been_told(20)
        platform.held["0"].set()

    assert platform.most_underway <= 3


async def test_a_status_waits_for_all_before_it_and_all_after_it_waits(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """A job that has ended says nothing more, and what it said before has arrived."""
    release = platform.held["before 1"] = asyncio.Event()
    held_status = platform.held["COMPLETED"] = asyncio.Event()

    async with make_sender() as sender:
        await sender.put(MessageReport("before 1"))
        await sender.put(MessageReport("before 2"))
        await sender.put(MessageReport("summary"), StatusReport(JobStatus.COMPLETED))
        await sender.put(MessageReport("after"))
        await platform.has_been_told(2)
        assert set(platform.told) == {"before 1", "before 2"}
        release.set()
        await platform.has_been_told(4)
        assert platform.told[2:] == ["summary", "COMPLETED"]
        held_status.set()

    assert platform.told[4:] == ["after"]


async def test_flush_returns_when_all_before_it_is_accepted(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """What comes after a flush is not its business."""
    release = platform.held["before"] = asyncio.Event()
    release_later = platform.held["later"] = asyncio.Event()

    async with make_sender() as sender:
        await sender.put(MessageReport("before"))
        flushed = asyncio.create_task(sender.flush())
        await platform.has_been_told(1)
        assert not flushed.done()
        await sender.put(MessageReport("later"))
        release.set()
        await flushed
        release_later.set()

    assert platform.told == ["before", "later"]


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

    assert platform.told == ["1", "2", "3"]


async def test_a_put_that_is_larger_than_the_queue_goes_through(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """The bound delays, it never blocks for good."""
    async with make_sender(max_queued=1) as sender:
        await sender.put(*_messages("1", "2", "3"))
        await sender.put(*_messages("4", "5"))

    assert platform.told == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_refused_report_is_kept_and_the_others_go_on(
    platform: _Platform, make_sender: Callable[..., ReportSender], status: int
) -> None:
    """One message that the platform dislikes is no reason to lose the hashes."""
    platform.answers["b"] = status

    async with make_sender() as sender:
        await sender.put(*_messages("a", "b", "c"))
        await sender.flush()

        assert platform.told == ["a", "b", "c"]
        assert [(report, type(error).code) for report, error in sender.rejected] == [
            (MessageReport("b"), "not_found" if status == 404 else "rejected")
        ]


async def test_a_refused_key_stops_the_sender(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Nothing more can be told, and the job learns it at its next word."""
    platform.answers["a"] = 401
    sender = make_sender()

    async def job() -> None:
        async with sender:
            await sender.put(*_messages("a", "b"))
            with pytest.raises(NotAuthorizedError):
                await sender.flush()
            await sender.put(MessageReport("c"))

    with pytest.raises(NotAuthorizedError):
        await job()
    assert platform.told == ["a"]
    assert repr(sender) == "<ReportSender of job 299 stopped by NotAuthorizedError, 0 queued, 0 rejected>"


async def test_a_platform_that_stays_away_stops_the_sender(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """The client has tried as often as it may; a report is never skipped in silence."""
    platform.answers["a"] = 503

    with pytest.raises(PlatformBusyError):
        async with make_sender() as sender:
            await sender.put(*_messages("a", "b"))

    assert platform.told == ["a"]


async def test_a_put_that_waits_for_room_learns_that_the_sender_has_stopped(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Nobody waits for a queue that nobody empties."""
    platform.answers["a"] = 401

    async def job() -> None:
        async with make_sender(max_queued=1) as sender:
            await sender.put(MessageReport("a"))
            await sender.put(MessageReport("b"))
            pytest.fail("the second put had no room")

    with pytest.raises(NotAuthorizedError):
        await job()


async def test_a_bug_in_sending_stops_the_sender_and_is_told(
    make_sender: Callable[..., ReportSender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody expected must not leave a flush waiting for ever."""
    sender = make_sender()

    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(sender._client, "post_message", broken)

    with pytest.raises(KeyError):
        async with sender:
            await sender.put(MessageReport("a"))


async def test_a_hash_without_a_name_at_the_platform_is_not_sent(
    platform: _Platform, make_sender: Callable[..., ReportSender]
) -> None:
    """Its digest stands in a message already."""
    async with make_sender() as sender:
        await sender.put(HashReport("7", "blake3", "aa"), HashReport("7", "sha1", "bb"))

    assert platform.told == ["bb"]
    assert platform.keys == ["299:run:1"]


async def test_leaving_by_an_exception_drops_the_rest_and_passes_it_on(
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

    running = asyncio.create_task(job())
    await platform.has_been_told(1)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
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
    platform.answers = {"a": 400}
    release = platform.held["b"] = asyncio.Event()

    async with make_sender() as sender:
        await sender.put(*_messages("a", "b"))
        await platform.has_been_told(2)

        assert repr(sender) == "<ReportSender of job 299 sending, 2 queued, 1 rejected>"
        release.set()
