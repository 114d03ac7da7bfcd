"""POST /v1/jobs: a payload comes to the queue once, or its sender is told why not."""

import asyncio
import base64
import gzip
import io
import json
from typing import Any

import pytest
import structlog.testing
from redis.asyncio import Redis

from tests.support.gateway_caller import KEY, OTHER_PLATFORM, PLATFORM, TOKEN, Caller, payload_of
from worker.gateway import gateway
from worker.libsafe.payload import MAX_DOCUMENT_BYTES
from worker.queueing.app import QUEUE, TASK


async def messages_of(redis: Redis) -> list[Any]:
    """Read the messages that wait, the next one first: task, task's id, arguments."""
    raw: list[str] = await redis.lrange(QUEUE, 0, -1)  # type: ignore[misc]  # redis types it for both its clients
    found = [json.loads(text) for text in reversed(raw)]
    return [(one["headers"]["task"], one["headers"]["id"], arguments_of(one)) for one in found]


def arguments_of(message: dict[str, Any]) -> Any:
    """Open a message's body as kombu does."""
    is_base64 = message["properties"].get("body_encoding") == "base64"
    return json.loads(base64.b64decode(message["body"]) if is_base64 else message["body"])[0]


def padded(size_bytes: int) -> bytes:
    """Make a payload of exactly this many bytes."""
    empty = json.dumps({**payload_of("1"), "padding": ""}).encode()
    return json.dumps({**payload_of("1"), "padding": "x" * (size_bytes - len(empty))}).encode()


async def test_a_payload_is_put_on_the_queue_as_it_came(call: Caller, redis: Redis) -> None:
    """202 with job and task, and where to ask; the worker gets what the platform sent."""
    payload = payload_of("299") | {"unknown": ["ä", 1.5, None]}

    answer = await call.hand_in(payload)

    assert (answer.status, answer.headers["Location"]) == (202, "/v1/jobs/299")
    assert answer.body.keys() == {"job_id", "task_id"}
    assert answer.body["job_id"] == "299"
    assert await messages_of(redis) == [(TASK, answer.body["task_id"], [payload])]


async def test_the_same_job_again_gets_the_same_answer_and_no_second_message(
    call: Caller, redis: Redis
) -> None:
    """However often, and also while the first one is being answered; an id may be a number."""
    answers = await asyncio.gather(*(call.hand_in(payload_of("299")) for _ in range(10)))
    answers.append(await call.hand_in(payload_of(299)))  # type: ignore[arg-type]  # a number is an id too

    assert {(answer.status, answer.text) for answer in answers} == {(202, answers[0].text)}
    assert len(await messages_of(redis)) == 1


async def test_jobs_of_one_id_on_two_platforms_are_two_jobs(call: Caller, redis: Redis) -> None:
    """An id is one platform's."""
    one = await call.hand_in(payload_of("299"))
    other = await call.hand_in(payload_of("299", platform=OTHER_PLATFORM))

    assert one.body["task_id"] != other.body["task_id"]
    assert len(await messages_of(redis)) == 2


async def test_the_answer_is_remembered_as_long_as_a_jobs_end(call: Caller, redis: Redis) -> None:
    """30 days; then the same id is another job."""
    await call.hand_in(payload_of("299"))

    seconds = await redis.ttl(f"hash-worker:job:{PLATFORM}/job/299:task")

    assert 30 * 24 * 3600 - 60 < seconds <= 30 * 24 * 3600


@pytest.mark.parametrize("job_id", ["a/b", "a b", "{x}", "50%", "ä", "a?b#c"])
async def test_whatever_its_id_a_job_is_found_where_the_answer_says(call: Caller, job_id: str) -> None:
    """Ids are opaque text."""
    accepted = await call.hand_in(payload_of(job_id))

    found = await call("GET", accepted.headers["Location"])

    assert (found.status, found.body["job_id"]) == (200, job_id)


@pytest.mark.parametrize(
    "token",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("DELETE", "/v1/jobs/1")]
)
async def test_without_the_token_nothing_is_done(
    call: Caller, redis: Redis, token: str | None, method: str, path: str
) -> None:
    """401, before anything of the body is looked at."""
    answer = await call(method, path, token=token, data=b"no payload")

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "token" in answer.body["error"]
    assert not await redis.keys()


async def test_the_schemes_letters_may_be_of_any_case(call: Caller) -> None:
    """RFC 6750, section 2.1."""
    assert (await call("GET", "/v1/jobs/1", token=f"bEARER {TOKEN}")).status == 404


async def test_every_fault_of_a_payload_is_told_by_its_path(call: Caller, redis: Redis) -> None:
    """400, so that nobody has to send it three times; no value is quoted."""
    payload = payload_of("1", ids=[None, "7", " "])
    payload["api"]["url"] = "ftp://secret.example.org"
    del payload["function_data"]["job"]

    answer = await call.hand_in(payload)

    assert answer.status == 400
    assert [fault["where"] for fault in answer.body["faults"]] == [
        "api.url",
        "function_data.files.ids[0]",
        "function_data.files.ids[2]",
        "function_data.job",
    ]
    assert "secret" not in answer.text
    assert not await redis.keys()


async def test_a_platform_that_is_not_allowed_is_a_fault_beside_the_others(call: Caller) -> None:
    """Its keys are sent nowhere."""
    payload = payload_of("1", ids=[[]], platform="https://elsewhere.example.org")

    answer = await call.hand_in(payload)

    assert answer.status == 400
    assert [fault["where"] for fault in answer.body["faults"]] == ["function_data.files.ids[0]", "api.url"]
    assert "not on the list of allowed hosts" in answer.body["faults"][1]["what"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a": NaN}', b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_told_as_one_fault(call: Caller, body: bytes) -> None:
    """400, whatever the Content-Type says."""
    answer = await call("POST", "/v1/jobs", data=body)

    assert answer.status == 400
    assert answer.body["faults"] == [{"where": "payload", "what": "must be a JSON object"}]


async def test_of_very_many_faults_the_first_are_told(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how many there are: the answer is no longer than it has to be."""
    monkeypatch.setattr(gateway, "_MOST_FAULTS", 2)

    two = await call.hand_in(payload_of("1", ids=[None, None]))
    three = await call.hand_in(payload_of("1", ids=[None, None, None]))

    assert (len(two.body["faults"]), len(three.body["faults"])) == (2, 2)
    assert "3 faults" not in two.body["error"]
    assert "it has 3 faults" in three.body["error"]


@pytest.mark.parametrize("encoding", ["whole", "chunked"])
async def test_a_body_of_a_mebibyte_is_taken_and_one_byte_more_is_not(
    call: Caller, redis: Redis, encoding: str
) -> None:
    """413, whether or not its length is told beforehand."""

    async def pieces(body: bytes) -> Any:
        for begin in range(0, len(body), 100_000):
            yield body[begin : begin + 100_000]

    too_long, fits = [
        await call("POST", "/v1/jobs", data=pieces(body) if encoding == "chunked" else io.BytesIO(body))
        for body in (padded(MAX_DOCUMENT_BYTES + 1), padded(MAX_DOCUMENT_BYTES))
    ]

    assert (too_long.status, fits.status) == (413, 202)
    assert "longer than 1048576 bytes" in too_long.body["error"]
    assert len(await messages_of(redis)) == 1


async def test_a_body_that_unpacks_to_too_much_is_refused(call: Caller) -> None:
    """What counts is what would be held in memory."""
    body = gzip.compress(b" " * 100 * MAX_DOCUMENT_BYTES)

    answer = await call("POST", "/v1/jobs", data=body, headers={"Content-Encoding": "gzip"})

    assert answer.status == 413


async def test_a_body_that_is_not_as_it_says_is_refused(call: Caller) -> None:
    """400: it claims to be packed."""
    answer = await call("POST", "/v1/jobs", data=b"{}", headers={"Content-Encoding": "gzip"})

    assert answer.status == 400


async def test_a_payload_whose_message_no_worker_would_take_is_refused(call: Caller, redis: Redis) -> None:
    """A message grows by what JSON escapes; accepted, it would be a dead letter."""
    body = json.dumps({**payload_of("1"), "padding": "ä" * 500_000}, ensure_ascii=False).encode()

    answer = await call("POST", "/v1/jobs", data=body)

    assert len(body) < MAX_DOCUMENT_BYTES
    assert answer.status == 413
    assert not await redis.llen(QUEUE)  # type: ignore[misc]  # redis types it for both its clients


async def test_what_is_logged_names_the_job_and_nothing_else_of_the_payload(call: Caller) -> None:
    """One line for each request that changes something; no key, no token, and none for probes."""
    with structlog.testing.capture_logs() as lines:
        await call.hand_in(payload_of("299"))
        await call.hand_in(payload_of("300", ids=[None]))
        await call("DELETE", "/v1/jobs/299")
        await call("DELETE", "/v1/jobs/299", token="Bearer wrong")
        await call("GET", "/v1/jobs/299")
        for path in ("/health/live", "/health/ready", "/metrics"):
            await call("GET", path)

    told = [tuple(line[name] for name in ("method", "route", "status", "job_id")) for line in lines]
    assert told == [
        ("POST", "/v1/jobs", 202, "299"),
        ("POST", "/v1/jobs", 400, None),
        ("DELETE", "/v1/jobs/{job_id}", 202, "299"),
        ("DELETE", "/v1/jobs/{job_id}", 401, None),
    ]
    assert all(secret not in str(lines) for secret in (KEY, TOKEN, "a-key-of-the-root"))
