"""The jobs API over HTTP, one rule of its contract a test."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from worker.local.api import jobs_api, serve
from worker.local.openapi import document
from worker.local.store import PlatformStore

DIGEST = "d41d8cd98f00b204e9800998ecf8427e"


@dataclass(frozen=True)
class Served:
    """A store with two containers, of which the user's key sees the first, and its address."""

    store: PlatformStore
    base_url: str
    mine: str
    other: str
    file_id: str
    job_id: str
    other_job_id: str
    user_key: str = "user-key"
    root_key: str = "root-key"


@dataclass(frozen=True)
class Answer:
    """A status and the envelope that came with it."""

    status: int
    success: bool
    result: Any
    msg: str
    headers: dict[str, str]


Call = Callable[..., Coroutine[Any, Any, Answer]]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Serve a small store on a free port."""
    store = PlatformStore()
    storage_id = store.add_storage("archive", endpoint="http://127.0.0.1:1", key_prefix="data/")
    mine, other = store.add_container("mine", storage_id), store.add_container("other", storage_id)
    store.add_user_key("user-key", [mine])
    store.add_root_key("root-key")
    file_id = store.add_file(mine, "/a b/ü.txt", size_bytes=3)
    job_id, other_job_id = store.add_job(mine), store.add_job(other)
    async with serve(jobs_api(store)) as base_url:
        yield Served(store, base_url, mine, other, file_id, job_id, other_job_id)
    store.close()


@pytest.fixture
async def call(served: Served) -> AsyncIterator[Call]:
    """Send a request with the user's key unless told otherwise, and take the envelope apart."""
    async with aiohttp.ClientSession() as session:

        async def send(
            method: str,
            path: str,
            body: Any = None,
            *,
            key: str | None = "user-key",
            idempotency_key: str | None = None,
        ) -> Answer:
            headers = {"Content-Type": "application/json"}
            if key is not None:
                headers["Authorization"] = f"Bearer {key}"
            if idempotency_key is not None:
                headers["Idempotency-Key"] = idempotency_key
            data = None if body is None else io.BytesIO(_bytes(body))
            url = URL(served.base_url + path, encoded=True)
            async with session.request(method, url, data=data, headers=headers) as response:
                envelope = await response.json()
                assert set(envelope) == {"success", "result", "msg"}
                return Answer(response.status, headers=dict(response.headers), **envelope)

        yield send


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


async def test_a_job_and_its_files_can_be_read(call: Call, served: Served) -> None:
    """Each record comes in the envelope, with ids as strings."""
    job = await call("GET", f"/api/job/{served.job_id}")
    file = await call("GET", f"/api/file/{served.file_id}")
    container = await call("GET", f"/api/container/{served.mine}")
    storage = await call("GET", f"/api/storage/{container.result['storage_id']}")

    assert job.result == {"id": served.job_id, "status": "PENDING"}
    assert file.result == {
        "id": served.file_id,
        "container_id": served.mine,
        "filename": "ü.txt",
        "fullpath": "/a b/ü.txt",
        "size": 3,
        "type": "FILE",
        "deleted": 0,
        "storage_class_id": "1",
    }
    assert container.result == {"id": served.mine, "name": "mine", "storage_id": "1"}
    assert storage.result == {
        "id": "1",
        "bucket": "archive",
        "endpoint": "http://127.0.0.1:1",
        "region": "us-east-1",
        "key_prefix": "data/",
    }
    assert all(answer.success and answer.status == 200 for answer in (job, file, container, storage))


@pytest.mark.parametrize("key", [None, "", "user-keY", "user-key-and-more"])
async def test_no_key_or_an_unknown_one_is_a_401(call: Call, served: Served, key: str | None) -> None:
    """Without a known key nothing is told, and the scheme to use is named (RFC 6750, section 3)."""
    answer = await call("GET", f"/api/job/{served.job_id}", key=key)

    assert (answer.status, answer.success, answer.result) == (401, False, None)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert served.user_key not in answer.msg


async def test_an_unknown_key_learns_nothing_about_what_exists(call: Call) -> None:
    """401 comes before 404."""
    assert (await call("GET", "/api/job/999", key="stranger")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/job/2", None),
        ("PUT", "/api/job/2", {"status": "RUNNING"}),
        ("POST", "/api/job/2/message", {"message": "x"}),
        ("GET", "/api/job/2/message", None),
        ("GET", "/api/container/2", None),
        ("GET", "/api/container/2/file/list", None),
        ("GET", "/api/container/2/file/path/x", None),
        ("GET", "/api/file/2", None),
        ("GET", "/api/file/2/metadata", None),
        ("GET", "/api/file/2/hash", None),
        ("PUT", "/api/file/2/hash", {"algorithm": "md5", "hash": DIGEST}),
        ("GET", "/api/storage/2", None),
    ],
)
async def test_a_record_of_another_container_is_a_403_for_a_user_and_open_to_root(
    call: Call, served: Served, method: str, path: str, body: Any
) -> None:
    """A user's key sees its containers alone, on every route; a root key sees all."""
    served.store.add_file(served.other, "/x", size_bytes=1)
    served.store.add_storage("elsewhere", endpoint=None)

    refused = await call(method, path, body)
    allowed = await call(method, path, body, key=served.root_key)

    assert (refused.status, refused.success, allowed.status) == (403, False, 200)


@pytest.mark.parametrize(
    "path",
    [
        "/api/job/999",
        "/api/job/none",
        "/api/job/-1",
        "/api/job/01",
        "/api/job/99999999999999999999",
        "/api/job/%D9%A1",
        "/api/file/999/hash",
        "/api/container/1/file/path/missing",
        "/api/nothing",
        "/",
    ],
)
async def test_what_does_not_exist_is_a_404_in_the_envelope(call: Call, path: str) -> None:
    """An id that is none, an id that is unknown and an unknown route are told alike."""
    answer = await call("GET", path)

    assert (answer.status, answer.success, answer.result) == (404, False, None)
    assert answer.msg


async def test_a_wrong_method_is_a_405_in_the_envelope_and_names_the_right_ones(
    call: Call, served: Served
) -> None:
    """RFC 9110, section 15.5.6: a 405 carries Allow."""
    answer = await call("DELETE", f"/api/job/{served.job_id}")

    assert (answer.status, answer.success) == (405, False)
    assert set(answer.headers["Allow"].split(",")) == {"GET", "PUT"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"null", 422),
        (b"[]", 422),
        ({}, 422),
        ({"message": 1}, 422),
        ({"message": "x", "typo": 1}, 422),
        ({"message": "x", "type": "info"}, 422),
        ({"message": "x", "file_id": True}, 422),
        ({"message": "x", "file_id": "one"}, 422),
        ({"message": "x" * 2**20}, 413),
        ({"message": "x", "file_id": "999"}, 404),
    ],
)
async def test_a_message_that_does_not_fit_is_refused_and_not_kept(
    call: Call, served: Served, body: Any, status: int
) -> None:
    """Each fault has its status, and nothing is stored."""
    answer = await call("POST", f"/api/job/{served.job_id}/message", body)

    assert (answer.status, answer.success) == (status, False)
    assert served.store.messages(served.job_id) == []


async def test_a_fault_in_a_body_is_told_without_the_body(call: Call, served: Served) -> None:
    """A body may hold anything, secrets too."""
    answer = await call("PUT", f"/api/job/{served.job_id}", {"status": "secret-value"})

    assert answer.status == 422
    assert "status" in answer.msg
    assert "secret-value" not in answer.msg


@pytest.mark.parametrize("text", ["", "x", "ü 😀\x00\n", "x" * 900_000])
async def test_messages_come_back_in_order_as_they_were_sent(call: Call, served: Served, text: str) -> None:
    """A message is a text of any length up to the largest body; its type is INFO unless it says otherwise."""
    first = await call("POST", f"/api/job/{served.job_id}/message", {"message": text, "file_id": 1})
    second = await call("POST", f"/api/job/{served.job_id}/message", {"message": "end", "type": "ERROR"})

    answer = await call("GET", f"/api/job/{served.job_id}/message")
    assert answer.result == [first.result, second.result]
    assert first.result == {"id": "1", "message": text, "type": "INFO", "file_id": "1"}
    assert second.result == {"id": "2", "message": "end", "type": "ERROR", "file_id": None}


async def test_a_message_about_a_file_of_another_container_is_a_404(call: Call, served: Served) -> None:
    """A job speaks of its own container's files."""
    foreign = served.store.add_file(served.other, "/x", size_bytes=1)

    answer = await call("POST", f"/api/job/{served.job_id}/message", {"message": "x", "file_id": foreign})

    assert answer.status == 404


async def test_a_job_goes_through_its_statuses(call: Call, served: Served) -> None:
    """RUNNING twice is fine, and so is the same end twice."""
    path = f"/api/job/{served.job_id}"
    wanted = ["RUNNING", "RUNNING", "COMPLETED", "COMPLETED"]

    answers = [await call("PUT", path, {"status": status}) for status in wanted]

    assert [answer.status for answer in answers] == [200] * 4
    assert [answer.result["status"] for answer in answers] == wanted
    assert (await call("GET", path)).result["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("end", "after"),
    [("COMPLETED", "RUNNING"), ("FAILED", "RUNNING"), ("COMPLETED", "FAILED"), ("FAILED", "COMPLETED")],
)
async def test_a_job_that_has_ended_keeps_its_end(call: Call, served: Served, end: str, after: str) -> None:
    """A second, different status after the end is a 409 that says what the end was."""
    path = f"/api/job/{served.job_id}"
    await call("PUT", path, {"status": end})

    answer = await call("PUT", path, {"status": after})

    assert (answer.status, answer.success) == (409, False)
    assert end in answer.msg
    assert (await call("GET", path)).result["status"] == end


async def test_a_job_cannot_go_back_to_pending(call: Call, served: Served) -> None:
    """PENDING is what nobody has begun; no client sets it."""
    assert (await call("PUT", f"/api/job/{served.job_id}", {"status": "PENDING"})).status == 422


async def test_a_hash_is_stored_once_per_algorithm_and_replaced_by_the_next(
    call: Call, served: Served
) -> None:
    """PUT is an upsert; the list is by name of algorithm."""
    path = f"/api/file/{served.file_id}/hash"
    for algorithm, digest in [("sha3-256", "00" * 32), ("md5", "ff" * 16), ("md5", DIGEST)]:
        await call("PUT", path, {"algorithm": algorithm, "hash": digest})

    answer = await call("GET", path)

    assert answer.result == [
        {"algorithm": "md5", "hash": DIGEST},
        {"algorithm": "sha3-256", "hash": "00" * 32},
    ]


@pytest.mark.parametrize(
    ("algorithm", "digest", "status"),
    [
        ("a", "00", 200),
        ("a" * 32, "00" * 128, 200),
        ("", "00", 422),
        ("a" * 33, "00", 422),
        ("MD5", "00", 422),
        ("sha3_256.v2", "00", 200),
        ("sha3/256", "00", 422),
        ("md5", "", 422),
        ("md5", "0", 422),
        ("md5", "0G", 422),
        ("md5", "FF", 422),
        ("md5", "00\n", 422),
        ("md5", "00" * 129, 422),
    ],
)
async def test_a_hash_is_whole_bytes_in_lower_case_hex_under_a_lower_case_name(
    call: Call, served: Served, algorithm: str, digest: str, status: int
) -> None:
    """Names have 1 to 32 of a-z, 0-9, dash, underscore and dot; a hash has 1 to 128 bytes."""
    answer = await call("PUT", f"/api/file/{served.file_id}/hash", {"algorithm": algorithm, "hash": digest})

    assert answer.status == status
    assert len(served.store.hashes(served.file_id)) == (status == 200)


async def test_metadata_come_in_order_and_a_file_without_has_an_empty_list(
    call: Call, served: Served
) -> None:
    """No metadata is an empty list, not a 404."""
    empty = await call("GET", f"/api/file/{served.file_id}/metadata")
    served.store.add_metadata(served.file_id, "title", "B")
    served.store.add_metadata(served.file_id, "creator", "A")

    answer = await call("GET", f"/api/file/{served.file_id}/metadata")

    assert (empty.status, empty.result) == (200, [])
    assert answer.result == [{"iecode": "title", "value": "B"}, {"iecode": "creator", "value": "A"}]


@pytest.mark.parametrize(
    "path",
    [
        "plain",
        "a b",
        "100%",
        "%41",
        "a%2Fb",
        "#",
        "a?b=c",
        "a+b",
        "a&b",
        "ü/日本/😀",
        "n/e/s/t/e/d",
        "x" * 200,
        "a\nb",
        "...",
    ],
)
async def test_a_file_is_found_by_its_percent_encoded_path(call: Call, served: Served, path: str) -> None:
    """The path is decoded once; slashes may come encoded or plain."""
    file_id = served.store.add_file(served.mine, "/" + path, size_bytes=1)
    base = f"/api/container/{served.mine}/file/path/"

    answers = [await call("GET", base + quote(path, safe=safe)) for safe in ("/", "")]

    assert [(answer.status, answer.result["id"]) for answer in answers] == [(200, file_id)] * 2
    assert answers[0].result["fullpath"] == "/" + path
    assert answers[0].result["filename"] == path.rpartition("/")[2]


async def test_a_path_belongs_to_its_container(call: Call, served: Served) -> None:
    """The same path in another container is another file."""
    path = "file/path/a%20b/%C3%BC.txt"
    twin = served.store.add_file(served.other, "/a b/ü.txt", size_bytes=1)

    own = await call("GET", f"/api/container/{served.mine}/{path}", key=served.root_key)
    other = await call("GET", f"/api/container/{served.other}/{path}", key=served.root_key)

    assert (own.result["id"], other.result["id"]) == (served.file_id, twin)


@pytest.mark.parametrize("limit", [1, 2, 11, 12, 13, 1000])
async def test_pages_give_every_file_once_in_numeric_order(call: Call, served: Served, limit: int) -> None:
    """A page shorter than the limit is the last; ten comes after nine; other containers' files stay out."""
    wanted = [served.file_id]
    for number in range(11):
        served.store.add_file(served.other, f"/{number}", size_bytes=0)
        wanted.append(served.store.add_file(served.mine, f"/{number}", size_bytes=0))

    seen: list[str] = []
    while True:
        after = f"&after={seen[-1]}" if seen else ""
        page = await call("GET", f"/api/container/{served.mine}/file/list?limit={limit}{after}")
        seen += [file["id"] for file in page.result]
        if len(page.result) < limit:
            break

    assert seen == wanted


async def test_a_page_has_a_thousand_files_unless_told_otherwise(call: Call, served: Served) -> None:
    """The default is the largest page."""
    for number in range(1000):
        served.store.add_file(served.mine, f"/{number}", size_bytes=0)

    page = await call("GET", f"/api/container/{served.mine}/file/list")
    last = await call("GET", f"/api/container/{served.mine}/file/list?after={page.result[-1]['id']}")

    assert (len(page.result), len(last.result)) == (1000, 1)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "after=x", "after=-1", "offset=1", "limit=1&limit=2"],
)
async def test_a_query_that_does_not_fit_is_a_422(call: Call, served: Served, query: str) -> None:
    """Limits run from 1 to 1000; an unknown or repeated parameter is a slip."""
    answer = await call("GET", f"/api/container/{served.mine}/file/list?{query}")

    assert (answer.status, answer.success) == (422, False)


async def test_a_repeated_write_gets_the_first_answer_and_is_done_once(call: Call, served: Served) -> None:
    """The same Idempotency-Key on the same route and with the same body changes nothing more."""
    path = f"/api/job/{served.job_id}/message"

    answers = [await call("POST", path, {"message": "x"}, idempotency_key="1-1") for _ in range(3)]

    assert [answer.result for answer in answers] == [answers[0].result] * 3
    assert len(served.store.messages(served.job_id)) == 1


async def test_a_late_copy_of_a_write_does_not_undo_a_newer_one(call: Call, served: Served) -> None:
    """The copy gets its old answer while the newer hash stays."""
    path = f"/api/file/{served.file_id}/hash"
    old, new = {"algorithm": "md5", "hash": "00" * 16}, {"algorithm": "md5", "hash": "ff" * 16}
    await call("PUT", path, old, idempotency_key="old")
    await call("PUT", path, new, idempotency_key="new")

    copy = await call("PUT", path, old, idempotency_key="old")

    assert (copy.status, copy.result) == (200, old)
    assert (await call("GET", path)).result == [new]


async def test_an_idempotency_key_with_another_body_is_a_409(call: Call, served: Served) -> None:
    """A key names one write."""
    path = f"/api/job/{served.job_id}/message"
    await call("POST", path, {"message": "x"}, idempotency_key="1")

    answer = await call("POST", path, {"message": "y"}, idempotency_key="1")

    assert answer.status == 409
    assert [message.message for message in served.store.messages(served.job_id)] == ["x"]


async def test_an_idempotency_key_means_nothing_on_another_route_or_for_another_user(
    call: Call, served: Served
) -> None:
    """Keys are counted per route and per user."""
    second = served.store.add_job(served.mine)
    path = f"/api/job/{served.job_id}/message"

    await call("POST", path, {"message": "x"}, idempotency_key="1")
    await call("POST", path, {"message": "x"}, idempotency_key="1", key=served.root_key)
    await call("POST", f"/api/job/{second}/message", {"message": "x"}, idempotency_key="1")

    assert [len(served.store.messages(job)) for job in (served.job_id, second)] == [2, 1]


async def test_a_write_that_failed_may_come_again_with_its_key(call: Call, served: Served) -> None:
    """Only what was done is remembered."""
    path = f"/api/job/{served.job_id}/message"
    next_id = str(int(served.file_id) + 1)
    failed = await call("POST", path, {"message": "x", "file_id": next_id}, idempotency_key="1")
    served.store.add_file(served.mine, "/later", size_bytes=0)

    answer = await call("POST", path, {"message": "x", "file_id": next_id}, idempotency_key="1")

    assert (failed.status, answer.status) == (404, 200)


@pytest.mark.parametrize(
    ("idempotency_key", "status"), [("k", 200), ("k" * 255, 200), ("", 422), ("k" * 256, 422), ("a b", 422)]
)
async def test_an_idempotency_key_has_1_to_255_printable_characters(
    call: Call, served: Served, idempotency_key: str, status: int
) -> None:
    """A key that cannot be kept is refused."""
    path = f"/api/job/{served.job_id}/message"

    assert (await call("POST", path, {"message": "x"}, idempotency_key=idempotency_key)).status == status


async def test_copies_sent_at_the_same_time_are_done_once(call: Call, served: Served) -> None:
    """Twenty copies of one message at once make one message."""
    path = f"/api/job/{served.job_id}/message"
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(call("POST", path, {"message": "x"}, idempotency_key="1"))

    assert len(served.store.messages(served.job_id)) == 1


async def test_a_bug_is_a_500_in_the_envelope_without_its_reason(
    call: Call, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client sees that it was not its fault, and nothing of what is inside."""

    def broken(_: str) -> None:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(served.store, "job", broken)

    with capture_logs() as logs:
        answer = await call("GET", f"/api/job/{served.job_id}")

    assert (answer.status, answer.success) == (500, False)
    assert "the inside" not in answer.msg
    assert "ZeroDivisionError: the inside" in logs[0]["trace"]
    assert served.user_key not in str(logs)


async def test_health_and_the_document_need_no_key(call: Call, served: Served) -> None:
    """Whoever may connect may see what is here to be asked."""
    health = await call("GET", "/api/health", key=None)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{served.base_url}/api/openapi.json") as response,
    ):
        published = await response.json()

    assert health.result == {"status": "ok"}
    assert published == document()
