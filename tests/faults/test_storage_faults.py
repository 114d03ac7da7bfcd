"""The storage breaks off, slows down, refuses, or gives what was not asked for."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.support.fault_http import RESET, Answer, HttpProxy, Relay
from tests.support.fault_judge import StandJob
from tests.support.fault_scenario import Scenario, pattern
from tests.support.fault_stand import KiB, MiB
from tests.support.fault_tcp import Flow, TcpProxy

pytestmark = pytest.mark.asyncio(loop_scope="session")


def error(status: int, code: str) -> Answer:
    """Refuse as S3 does."""
    return Answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())


@pytest.mark.parametrize(
    ("name", "times"),
    [("reset in mid-body", 12), ("reset", 8), ("stall", 4), ("drip", 4), ("503 SlowDown", 12), ("500", 6)],
)
async def test_a_storage_that_falters_costs_time_and_no_file(
    scenario: Scenario, name: str, times: int
) -> None:
    """A range is asked for again from the byte that was reached."""

    async def falter(_: web.BaseRequest) -> Relay | Answer:
        offset = scenario.random.randrange(256 * KiB)
        actions: dict[str, Relay | Answer] = {
            "reset in mid-body": Relay(reset_after_bytes=offset),
            "reset": RESET,
            "stall": Relay(stall_after_bytes=offset),
            "drip": Relay(bytes_per_second=1000),
            "503 SlowDown": error(503, "SlowDown"),
            "500": error(500, "InternalError"),
        }
        return actions[name]

    await scenario.worker()
    scenario.stand.s3.on(name, lambda _: scenario.random.random() < 0.3, falter, times)

    job = await scenario.run(8 * MiB, 256 * KiB + 1, 1)

    await scenario.judged()
    assert scenario.stand.faults[name]
    assert scenario.bytes_read(job) <= job.size_bytes + times * 256 * KiB


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("200 for 206", Relay(without=frozenset({"Range"}))),
        ("wrong Content-Range", Relay(headers={"Content-Range": "bytes 0-262143/262144"})),
        ("no Content-Range", Relay(headers={"Content-Range": None})),
        ("another ETag", Relay(headers={"ETag": '"0123456789abcdef0123456789abcdef"'})),
        ("412", error(412, "PreconditionFailed")),
        ("403", error(403, "AccessDenied")),
        ("404", error(404, "NoSuchKey")),
        ("expired credentials", error(400, "ExpiredToken")),
        ("500 for ever", error(500, "InternalError")),
    ],
)
async def test_bytes_that_can_not_be_trusted_or_had_give_no_digest(
    scenario: Scenario, name: str, action: Relay | Answer
) -> None:
    """The file fails and its user is told; the other files of the job are hashed."""
    await scenario.worker({"READING__ATTEMPTS": 3})
    job = await scenario.new_job(2 * MiB, MiB, end="FAILED")
    # The object version is pinned by then.
    scenario.stand.s3.on(
        name,
        lambda request: request.path == job.files[0].path and scenario.bytes_read(job) > 512 * KiB,
        action,
    )

    await scenario.enqueue(job)

    await scenario.judged()
    assert stored(scenario, job) == [{}, job.files[1].digests]
    assert any(f"File {job.files[0].file_id} " in text for text in scenario.texts(job))


async def test_an_object_that_is_overwritten_in_mid_read_gives_no_mixed_digest(scenario: Scenario) -> None:
    """Its bucket keeps no versions, so the bytes that are left are of another object."""
    async with bucket_without_versions(scenario):
        job = await scenario.new_job(8 * MiB, end="FAILED")
        await scenario.worker()

        await overwrite_in_mid_read(scenario, job)

        await scenario.judged()
    assert stored(scenario, job) == [{}]
    assert any("was changed while it was read" in text for text in scenario.texts(job))


@asynccontextmanager
async def bucket_without_versions(scenario: Scenario) -> AsyncIterator[None]:
    """Let the bucket keep no versions while the block runs."""
    s3 = scenario.platform.s3._started()
    bucket = scenario.platform.bucket
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    try:
        yield
    finally:
        await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


async def test_an_object_that_gets_a_new_version_in_mid_read_is_read_to_the_end_of_its_own(
    scenario: Scenario,
) -> None:
    """The digest belongs to the version that was pinned."""
    job = await scenario.new_job(8 * MiB)
    await scenario.worker()

    await overwrite_in_mid_read(scenario, job)

    await scenario.judged()


async def overwrite_in_mid_read(scenario: Scenario, job: StandJob) -> None:
    """Run the job, and write other bytes in the place of its object when a part was read."""
    _, bucket, key = job.files[0].path.split("/", 2)

    async def overwrite(_: web.BaseRequest) -> Relay:
        content = pattern("other bytes here", job.size_bytes)
        await scenario.platform.s3._started().put_object(Bucket=bucket, Key=key, Body=content)
        return Relay()

    scenario.stand.s3.on("overwritten", lambda _: scenario.bytes_read(job) > MiB, overwrite, times=1)
    await scenario.enqueue(job)


async def test_a_flipped_bit_in_the_head_of_an_answer_gives_no_wrong_digest(scenario: Scenario) -> None:
    """Whatever it makes of a length, a range or an ETag is noticed, or does no harm."""
    port = int(scenario.stand.s3.url.rpartition(":")[2])
    flips: Counter[str] = Counter()  # without the resets, which only see to a new connection
    async with TcpProxy(port, flips) as proxy:
        endpoint = f"STORAGES__{scenario.platform.storage_id}__ENDPOINT_URL"
        await scenario.worker({endpoint: f"http://127.0.0.1:{proxy.port}"})
        for _ in range(25):
            # The heads of this server have some 400 bytes; beyond them nothing could be noticed.
            proxy.flow = Flow(flip_at=scenario.random.randrange(300))
            proxy.reset()
            await scenario.ended(await scenario.run(MiB, end="COMPLETED or FAILED"))
        scenario.stand.faults["bit flipped"] += flips["bit flipped"]

        await scenario.judged()


async def test_a_storage_that_redirects_sees_no_other_server(scenario: Scenario) -> None:
    """What is signed for one server is not sent to another that it names."""
    async with HttpProxy(scenario.platform.s3_endpoint) as thief:
        scenario.stand.s3.on("redirect", lambda _: True, Answer(307, {"Location": f"{thief.url}/archive/x"}))
        await scenario.worker({"READING__ATTEMPTS": 2})
        await scenario.run(MiB, end="FAILED")

        await scenario.judged()

        assert not thief.requests


def stored(scenario: Scenario, job: StandJob) -> list[dict[str, str]]:
    """Give the hashes that the platform has of a job's files."""
    return [scenario.platform.hashes(file.file_id) for file in job.files]
