"""The client against the platform on this machine: both sides of the jobs API hold to the same contract."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.libsafe.client import PlatformClient, open_http
from worker.libsafe.errors import (
    JobAddress,
    NotAuthorizedError,
    NotFoundError,
    NotPermittedError,
    RejectedError,
)
from worker.libsafe.models import (
    Container,
    FileHash,
    FileRecord,
    FileType,
    Job,
    JobMessage,
    JobStatus,
    MetadataItem,
    Storage,
)
from worker.libsafe.names import job_name
from worker.libsafe.outbox import Outbox
from worker.libsafe.reports import HashReport, MessageReport, ReportPolicy, StatusReport
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.local.api import jobs_api, serve
from worker.local.store import PlatformStore
from worker.queueing.lease import Lease, Leases


@dataclass(frozen=True)
class _Platform:
    """A platform with one storage, one container and one job, and a client for it."""

    store: PlatformStore
    url: str
    http: aiohttp.ClientSession
    storage_id: str
    container_id: str
    job_id: str

    def client(self, key: str = "user-key") -> PlatformClient:
        return PlatformClient(self.url, SecretStr(key), Routes(), self.http, first_pause_seconds=0)


@pytest.fixture
async def platform() -> AsyncIterator[_Platform]:
    """Serve a platform over HTTP."""
    store = PlatformStore()
    try:
        storage_id = store.add_storage("bucket", endpoint="http://127.0.0.1:9000", key_prefix="data/")
        container_id = store.add_container("box", storage_id)
        store.add_user_key("user-key", [container_id])
        store.add_user_key("key-of-another-container", [store.add_container("other", storage_id)])
        job_id = store.add_job(container_id)
        async with serve(jobs_api(store)) as url, open_http() as http:
            yield _Platform(store, url, http, storage_id, container_id, job_id)
    finally:
        store.close()


async def test_a_job_goes_from_not_begun_to_its_end(platform: _Platform) -> None:
    """A job that nobody has begun has a status that the vendor has not published."""
    client = platform.client()
    begun = await client.job(platform.job_id)
    await client.set_job_status(platform.job_id, JobStatus.RUNNING, "t:0")
    running = await client.job(platform.job_id)
    await client.set_job_status(platform.job_id, JobStatus.COMPLETED, "t:1")

    assert begun.status not in set(JobStatus)
    assert running == Job(id=platform.job_id, status=JobStatus.RUNNING)
    assert (await client.job(platform.job_id)).status is JobStatus.COMPLETED


async def test_a_job_that_has_ended_cannot_be_ended_otherwise(platform: _Platform) -> None:
    """One end per job; the refusal says so and is not asked again."""
    client = platform.client()
    await client.set_job_status(platform.job_id, JobStatus.FAILED, "t:0")

    with pytest.raises(RejectedError, match="FAILED") as caught:
        await client.set_job_status(platform.job_id, JobStatus.COMPLETED, "t:1")
    assert caught.value.platform_message


async def test_messages_are_kept_in_order_with_their_file(platform: _Platform) -> None:
    """What is posted is read back as it was."""
    client = platform.client()
    file_id = platform.store.add_file(platform.container_id, "/a", size_bytes=1)
    text = 'Größe: "1" \n\t{\u2028} 🗄'
    await client.post_message(platform.job_id, text, "INFO", file_id, "t:0")
    await client.post_message(platform.job_id, "second", "INFO", None, "t:1")

    first, second = await client.messages(platform.job_id)
    assert first == JobMessage(id=first.id, message=text, type="INFO", file_id=file_id)
    assert second == JobMessage(id=second.id, message="second", type="INFO", file_id=None)


async def test_a_repeated_message_is_there_once(platform: _Platform) -> None:
    """A report may arrive twice; its key says that it is the same."""
    client = platform.client()
    await client.post_message(platform.job_id, "m", "INFO", None, "299:t:0")
    await client.post_message(platform.job_id, "m", "INFO", None, "299:t:0")

    assert [message.message for message in await client.messages(platform.job_id)] == ["m"]


async def test_two_messages_of_the_same_text_are_two(platform: _Platform) -> None:
    """It is the key and not the text that makes a repetition."""
    client = platform.client()
    await client.post_message(platform.job_id, "m", "INFO", None, "299:t:0")
    await client.post_message(platform.job_id, "m", "INFO", None, "299:t:1")

    assert [message.message for message in await client.messages(platform.job_id)] == ["m", "m"]


ODD_PATHS = [
    "/a",
    "/dir/a b.txt",
    "/dir/50%25.txt",
    "/#hash?query&x=1+2;3.txt",
    "/größe/文件 🗄.bin",
    "/" + "n" * 200,
    "/a/b/c/d/e",
    "/back\\slash",
    "/...",
    "//two slashes",
]


@pytest.mark.parametrize("path", ODD_PATHS)
async def test_a_file_is_found_by_its_path_and_by_its_id(platform: _Platform, path: str) -> None:
    """Whatever a name is made of, it arrives whole."""
    client = platform.client()
    file_id = platform.store.add_file(platform.container_id, path, size_bytes=5, storage_class_id="3")

    record = await client.file_by_path(platform.container_id, path)

    assert record == await client.file(file_id)
    assert record == FileRecord(
        id=file_id,
        container_id=platform.container_id,
        filename=path.rsplit("/", 1)[-1],
        fullpath=path,
        size_bytes=5,
        type=FileType.FILE,
        storage_class_id="3",
    )


async def test_folders_and_deleted_files_are_told_as_such(platform: _Platform) -> None:
    """They have records too."""
    store, client = platform.store, platform.client()
    folder_id = store.add_file(platform.container_id, "/dir", size_bytes=0, kind="FOLDER")
    deleted_id = store.add_file(platform.container_id, "/gone", size_bytes=1, deleted=True)

    assert (await client.file(folder_id)).type is FileType.FOLDER
    assert (await client.file(deleted_id)).deleted is True


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
async def test_a_container_is_listed_whole(platform: _Platform, count: int) -> None:
    """Each file once, at any number of pages, and none of another container."""
    platform.store.add_file(platform.store.add_container("third", platform.storage_id), "/x", size_bytes=1)
    ids = [
        platform.store.add_file(platform.container_id, f"/{number}", size_bytes=number)
        for number in range(count)
    ]

    pages = platform.client().container_pages(platform.container_id, page_files=2)

    assert [record.id async for page in pages for record in page] == ids


async def test_a_list_is_gone_on_with_behind_any_id(platform: _Platform) -> None:
    """The cursor is the id itself, so it serves another client too."""
    ids = [platform.store.add_file(platform.container_id, f"/{number}", size_bytes=1) for number in range(5)]

    pages = platform.client().container_pages(platform.container_id, after=ids[1], page_files=2)

    assert [[record.id for record in page] async for page in pages] == [ids[2:4], ids[4:]]


async def test_files_that_come_and_go_meanwhile_hide_no_other(platform: _Platform) -> None:
    """The pages hang together by the last id, not by a number of files."""
    store = platform.store
    ids = [store.add_file(platform.container_id, f"/{number}", size_bytes=1) for number in range(4)]
    seen = []
    async for page in platform.client().container_pages(platform.container_id, page_files=2):
        seen += [record.id for record in page]
        if len(seen) == 2:
            ids.append(store.add_file(platform.container_id, "/late", size_bytes=1))

    assert seen == ids


async def test_metadata_is_told_in_order_or_is_none(platform: _Platform) -> None:
    """A code may come twice."""
    store, client = platform.store, platform.client()
    file_id = store.add_file(platform.container_id, "/a", size_bytes=1)
    before = await client.metadata(file_id)
    for iecode, value in (("title", "t"), ("subject", "b"), ("subject", "a")):
        store.add_metadata(file_id, iecode, value)

    assert before is None
    assert await client.metadata(file_id) == (
        MetadataItem(iecode="title", value="t"),
        MetadataItem(iecode="subject", value="b"),
        MetadataItem(iecode="subject", value="a"),
    )


async def test_a_stored_hash_is_read_back_and_replaced(platform: _Platform) -> None:
    """One hash per file and algorithm."""
    client = platform.client()
    file_id = platform.store.add_file(platform.container_id, "/a", size_bytes=1)
    await client.set_hash(file_id, "md5", "00" * 16, "t:0")
    await client.set_hash(file_id, "sha1", "11" * 20, "t:1")
    await client.set_hash(file_id, "md5", "ff" * 16, "t:2")

    assert set(await client.hashes(file_id)) == {
        FileHash(algorithm="md5", hex_digest="ff" * 16),
        FileHash(algorithm="sha1", hex_digest="11" * 20),
    }


async def test_a_container_leads_to_its_storage(platform: _Platform) -> None:
    """The payload names neither bucket nor endpoint; these two calls do."""
    client = platform.client()

    container = await client.container(platform.container_id)

    assert container == Container(id=platform.container_id, name="box", storage_id=platform.storage_id)
    assert await client.storage(container.storage_id) == Storage(
        id=platform.storage_id,
        bucket="bucket",
        endpoint="http://127.0.0.1:9000",
        region="us-east-1",
        key_prefix="data/",
    )


async def test_what_is_not_there_is_not_found(platform: _Platform) -> None:
    """Also where the id is none that the platform could have."""
    client = platform.client()

    for call in (
        client.job("999"),
        client.file("999"),
        client.file("no id/of this platform"),
        client.file_by_path(platform.container_id, "/nothing"),
        client.container("999"),
        client.storage("999"),
        client.set_hash("999", "md5", "00", "t:0"),
        client.post_message("999", "m", "INFO", None, "t:1"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_a_wrong_key_and_a_key_of_another_container_are_not_authorized(platform: _Platform) -> None:
    """401 and 403 are told apart: the one ends a job, the other concerns one record."""
    for key, error in (("nobody's-key", NotAuthorizedError), ("key-of-another-container", NotPermittedError)):
        with pytest.raises(error) as caught:
            await platform.client(key).job(platform.job_id)
        assert key not in str(caught.value)


async def test_a_sender_brings_a_whole_job_to_the_platform(platform: _Platform, redis: Redis) -> None:
    """Each file's messages in order, all before the summary, the end last."""
    store, client = platform.store, platform.client()
    address = JobAddress("http://platform", SecretStr("k"), platform.job_id)
    lease = await Leases(redis, 60).take(job_name(address))
    assert isinstance(lease, Lease)
    outbox = Outbox(redis, job_name(address), address, lease)
    ids = [store.add_file(platform.container_id, f"/{number}", size_bytes=1) for number in range(30)]

    async with ReportSender(client, platform.job_id, outbox, ReportPolicy()) as sender:
        for file_id in ids:
            await sender.put(
                MessageReport("metadata", file_id=file_id),
                MessageReport("digest", file_id=file_id),
                HashReport(file_id, "md5", "00" * 16),
                HashReport(file_id, "blake3", "11" * 32),
            )
        await sender.put(MessageReport("summary", "WARNING"), StatusReport(JobStatus.COMPLETED))
        assert await sender.finish() is JobStatus.COMPLETED

    messages = await client.messages(platform.job_id)
    assert (await outbox.refusals()).count == 0
    assert (await client.job(platform.job_id)).status is JobStatus.COMPLETED
    assert (messages[-1].message, messages[-1].type) == ("WARNING: summary", "INFO")
    assert len(messages) == 61
    for file_id in ids:
        assert [m.message for m in messages if m.file_id == file_id] == ["metadata", "digest"]
        assert await client.hashes(file_id) == (FileHash(algorithm="md5", hex_digest="00" * 16),)
