import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from worker.libsafe.client import PlatformClient, open_http
from worker.libsafe.errors import (
    LibsafeError,
    NotAuthorizedError,
    NotFoundError,
    NotPermittedError,
    PlatformBusyError,
    PlatformUnreachableError,
    RejectedError,
    WrongAnswerError,
)
from worker.libsafe.models import Job, JobStatus, MetadataItem
from worker.libsafe.routes import Routes

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]

KEY = "user-key-4f1c"
JOB = {"id": 299, "status": "RUNNING"}


def _client(url: str, http: aiohttp.ClientSession, **options: Any) -> PlatformClient:
    return PlatformClient(url, SecretStr(KEY), Routes(), http, **{"first_pause_seconds": 0, **options})


def _good(result: object) -> web.Response:
    return web.json_response({"success": True, "result": result, "msg": ""})


async def test_a_call_carries_the_key_and_goes_to_the_route(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Bearer, as the vendor has published; the address with or without /api is the same."""
    seen: list[tuple[str, str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, request.headers["Authorization"]))
        return _good(JOB)

    url = await serve(handler)
    jobs = [await _client(base, http).job("299") for base in (url, f"{url}/", f"{url}/api", f"{url}/api/")]

    assert seen == [("GET", "/api/job/299", f"Bearer {KEY}")] * 4
    assert jobs == [Job(id="299", status=JobStatus.RUNNING)] * 4


async def test_odd_ids_and_paths_arrive_as_they_were(serve: Serve, http: aiohttp.ClientSession) -> None:
    """What is percent-encoded here is the same again on the other side."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.json_response({"success": False}, status=404)

    client = _client(await serve(handler), http)
    for call in (client.file("a/b c"), client.file_by_path("1", "/dir/50%+#?&;=é.txt"), client.file("..")):
        with pytest.raises(NotFoundError):
            await call

    assert seen == ["/api/file/a%2Fb%20c", "/api/container/1/file/path/dir/50%25%2B%23%3F%26%3B%3D%C3%A9.txt"]


async def test_what_writes_says_it_in_json_with_its_key_of_repetition(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Bodies are as in the contract; a message without a file names none."""
    seen: list[tuple[str, str, object, str]] = []

    async def handler(request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        seen.append((request.method, request.path, await request.json(), key))
        return web.json_response({"success": True})

    client = _client(await serve(handler), http)
    await client.set_job_status("299", JobStatus.RUNNING, "299:t:0")
    await client.post_message("299", "Grüße", "INFO", None, "299:t:1")
    await client.post_message("299", "m", "INFO", "7", "299:t:2")
    await client.set_hash("7", "md5", "00ff", "299:t:3")

    assert seen == [
        ("PUT", "/api/job/299", {"status": "RUNNING"}, "299:t:0"),
        ("POST", "/api/job/299/message", {"message": "Grüße", "type": "INFO"}, "299:t:1"),
        ("POST", "/api/job/299/message", {"message": "m", "type": "INFO", "file_id": "7"}, "299:t:2"),
        ("PUT", "/api/file/7/hash", {"algorithm": "md5", "hash": "00ff"}, "299:t:3"),
    ]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_busy_platform_is_asked_again_with_the_same_key_of_repetition(
    serve: Serve, http: aiohttp.ClientSession, status: int
) -> None:
    """The platform may have done it before it failed; by the key it knows the same report again."""
    keys: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        return web.Response(status=status) if len(keys) < 3 else web.json_response({"success": True})

    await _client(await serve(handler), http).post_message("299", "m", "INFO", None, "299:t:0")

    assert keys == ["299:t:0"] * 3


async def test_attempts_are_bounded(serve: Serve, http: aiohttp.ClientSession) -> None:
    """The last failure is told when the attempts are used up."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=503, headers={"Retry-After": "0"})

    with pytest.raises(PlatformBusyError) as caught:
        await _client(await serve(handler), http, attempts=4).job("299")

    assert asked == 4
    assert caught.value.retry_after_seconds == 0


async def test_a_wish_to_wait_too_long_ends_the_attempts(serve: Serve, http: aiohttp.ClientSession) -> None:
    """The platform is not asked before the time that it named."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=429, headers={"Retry-After": "3600"})

    with pytest.raises(PlatformBusyError) as caught:
        await _client(await serve(handler), http).job("299")

    assert asked == 1
    assert caught.value.retry_after_seconds == 3600


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (401, NotAuthorizedError),
        (403, NotPermittedError),
        (404, NotFoundError),
        (409, RejectedError),
        (422, RejectedError),
    ],
)
async def test_a_refusal_is_final(
    serve: Serve, http: aiohttp.ClientSession, status: int, error: type[LibsafeError]
) -> None:
    """Asking again cannot help, and with a refused key it may lock the user out."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"success": False, "msg": "no"}, status=status)

    with pytest.raises(error):
        await _client(await serve(handler), http).job("299")

    assert asked == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere(
    serve: Serve, http: aiohttp.ClientSession, status: int
) -> None:
    """The key goes to the address of the payload and to no other."""
    elsewhere: list[str] = []

    async def thief(request: web.Request) -> web.Response:
        elsewhere.append(request.path)
        return _good(JOB)

    target = await serve(thief)

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": target + request.path})

    with pytest.raises(WrongAnswerError):
        await _client(await serve(handler), http).job("299")

    assert elsewhere == []


async def test_nobody_there_is_unreachable(http: aiohttp.ClientSession) -> None:
    """A refused connection may be a restart."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        with pytest.raises(
            PlatformUnreachableError, match=r"GET http://127\.0\.0\.1:\d+/api/job/299"
        ) as caught:
            await _client(url, http, attempts=2).job("299")

    assert isinstance(caught.value.__cause__, aiohttp.ClientError)


async def test_a_platform_that_never_answers_is_unreachable(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Each attempt has its time."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(PlatformUnreachableError, match="did not answer"):
        await _client(await serve(handler), http, attempts=2, timeout_seconds=0.05).job("299")

    assert asked == 2


async def test_an_answer_that_is_cut_off_is_asked_for_again(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Half an answer is none."""
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            return _good(JOB)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"success": true')
        assert request.transport is not None
        request.transport.close()
        return response

    job = await _client(await serve(handler), http).job("299")

    assert (asked, job.id) == (2, "299")


async def test_a_connection_that_closes_without_an_answer_is_tried_again(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """So it looks when a platform restarts under a kept connection."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"success": True})

    await _client(await serve(handler), http).post_message("299", "m", "INFO", None, "299:t:0")

    assert asked == 2


async def _speak_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    with suppress(ConnectionError):
        await writer.drain()
    writer.close()


async def test_what_speaks_no_http_is_a_wrong_answer_without_the_key(http: aiohttp.ClientSession) -> None:
    """The library's own exception shows the request's headers; ours and its cause do not."""
    server = await asyncio.start_server(_speak_nonsense, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]

        with pytest.raises(WrongAnswerError) as caught:
            await _client(f"http://127.0.0.1:{port}", http).job("299")

    cause = caught.value.__cause__
    assert isinstance(cause, aiohttp.ClientResponseError)
    assert KEY not in f"{caught.value!r} {cause} {cause!r} {cause.args} {cause.request_info}"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"<html>", "not the platform's JSON envelope"),
        (b'{"success": true}', "result"),
        (b'{"success": true, "result": null}', "result"),
        (b'{"success": true, "result": []}', "result"),
        (b'{"success": true, "result": {"id": 1}}', "status"),
        (b'{"success": true, "result": {"id": 1.5, "status": 5}}', "id"),
        (b'{"success": true, "result": {}, "msg": "' + b"x" * 17_000_000 + b'"}', "longer than"),
    ],
)
async def test_an_answer_that_is_not_as_promised_is_a_wrong_answer(
    serve: Serve, http: aiohttp.ClientSession, body: bytes, named: str
) -> None:
    """The error says what is amiss with which call."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body)

    with pytest.raises(WrongAnswerError, match=r"GET http://.*/api/job/299") as caught:
        await _client(await serve(handler), http).job("299")

    assert named in str(caught.value)


async def test_metadata_that_is_empty_or_not_there_is_none(serve: Serve, http: aiohttp.ClientSession) -> None:
    """A file without metadata may be told in two ways."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/api/file/1/metadata":
            return _good([{"iecode": "title", "value": "t"}])
        if request.path == "/api/file/2/metadata":
            return _good([])
        return web.json_response({"success": False}, status=404)

    client = _client(await serve(handler), http)

    assert await client.metadata("1") == (MetadataItem(iecode="title", value="t"),)
    assert await client.metadata("2") is None
    assert await client.metadata("3") is None


def _record(number: int) -> dict[str, object]:
    return {
        "id": str(number),
        "container_id": 1,
        "filename": f"{number}",
        "fullpath": f"/{number}",
        "size": 1,
        "type": "FILE",
        "deleted": 0,
    }


@pytest.mark.parametrize(
    ("files", "sizes"),
    [(0, []), (1, [1]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])],
)
async def test_a_containers_files_come_page_by_page(
    serve: Serve, http: aiohttp.ClientSession, files: int, sizes: list[int]
) -> None:
    """The list ends with an empty page: one that is not full may be all that the platform gives at a time."""
    asked: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        after = int(request.query.get("after", "0"))
        return _good([_record(number) for number in range(1, files + 1) if number > after][:3])

    client = _client(await serve(handler), http)
    pages = [page async for page in client.container_pages("1", page_files=3)]

    assert [record.id for page in pages for record in page] == [str(n) for n in range(1, files + 1)]
    assert [len(page) for page in pages] == sizes
    last_ids = ["0", *(page[-1].id for page in pages)]
    assert asked == [{"limit": "3", **({"after": id_} if id_ != "0" else {})} for id_ in last_ids]


async def test_a_list_is_gone_on_with_behind_any_id(serve: Serve, http: aiohttp.ClientSession) -> None:
    """Whoever kept the cursor does not begin anew."""
    asked: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        return _good([_record(6)] if request.query["after"] == "5" else [])

    client = _client(await serve(handler), http)
    pages = [page async for page in client.container_pages("1", after="5", page_files=2)]

    assert asked == [{"limit": "2", "after": "5"}, {"limit": "2", "after": "6"}]
    assert [[record.id for record in page] for page in pages] == [["6"]]


async def test_a_platform_that_gives_its_whole_list_whatever_it_is_asked_is_understood(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """It has no pages; all of it fits into one."""

    async def handler(request: web.Request) -> web.Response:
        return _good([_record(1), _record(2)])

    client = _client(await serve(handler), http)

    pages = [page async for page in client.container_pages("1", page_files=3)]

    assert [[record.id for record in page] for page in pages] == [["1", "2"]]


async def test_a_list_that_does_not_move_on_is_a_wrong_answer(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """A platform that ignores the cursor would be read for ever."""

    async def handler(request: web.Request) -> web.Response:
        return _good([_record(1)])

    client = _client(await serve(handler), http)

    with pytest.raises(WrongAnswerError, match="does not move on"):
        _ = [page async for page in client.container_pages("1", page_files=1)]


async def test_a_cancelled_call_is_cancelled_and_leaves_no_connection(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Stopping a job does not wait for the platform."""
    arrived, never = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        arrived.set()
        await never.wait()
        raise AssertionError

    call = asyncio.create_task(_client(await serve(handler), http).job("299"))
    await arrived.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert isinstance(http.connector, aiohttp.TCPConnector)
    assert not http.connector._acquired


async def test_a_cookie_of_one_call_does_not_go_with_another(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """The connections are shared by users with different keys."""
    cookies: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        response = _good(JOB)
        response.set_cookie("session", "of-another-user")
        return response

    # aiohttp keeps no cookies of an address of numbers, so a name it is.
    client = _client((await serve(handler)).replace("127.0.0.1", "localhost"), http)
    await client.job("299")
    await client.job("299")

    assert cookies == [None, None]


async def test_connections_are_bounded_and_kept(serve: Serve) -> None:
    """Calls wait for a connection rather than open one more."""
    ports: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        return _good(JOB)

    async with open_http(2) as http:
        client = _client(await serve(handler), http)
        await asyncio.gather(*(client.job("299") for _ in range(20)))

    assert len(ports) <= 2


async def test_a_client_shows_its_platform_and_no_key(http: aiohttp.ClientSession) -> None:
    """A repr is for logs."""
    assert repr(_client("http://h/api", http)) == "<PlatformClient of http://h>"


async def test_an_address_that_is_none_is_refused_before_any_call(http: aiohttp.ClientSession) -> None:
    """The same rules as for the payload."""
    with pytest.raises(ValueError, match="must begin with http"):
        _client("file:///etc/passwd", http)
