"""GET and DELETE /v1/jobs/{id}: how far a job is, and how it is cancelled."""

from redis.asyncio import Redis

from tests.support.gateway_caller import OTHER_PLATFORM, PLATFORM, Caller, payload_of
from worker.jobs.ledger import Ledger, Snapshot

JOB = f"hash-worker:job:{PLATFORM}/job/299"


async def test_a_job_that_nobody_has_begun_is_waiting(call: Caller) -> None:
    """It was accepted, so it is known."""
    accepted = await call.hand_in(payload_of("299"))

    found = await call("GET", "/v1/jobs/299")

    assert found.status == 200
    assert found.body == {**accepted.body, "platform": PLATFORM, **Snapshot().as_json()}
    assert found.body["state"] == "WAITING"


async def test_a_job_that_has_begun_is_told_as_its_ledger_has_it(call: Caller, redis: Redis) -> None:
    """Also one that came to the queue another way, which has no task that was answered."""
    ledger = Ledger(redis, JOB)
    await ledger.begin()
    await ledger.set_totals(files=3, size_bytes=300, passed_over={"folder": 1})
    await ledger.tick(0, 150)

    found = (await call("GET", "/v1/jobs/299")).body

    assert (found["task_id"], found["state"]) == (None, "RUNNING")
    assert found["bytes"] == {"total": 300, "done": 150}
    assert (found["files"]["total"], found["files"]["passed_over"]) == (3, {"folder": 1})
    assert found["share"] == 0.5


async def test_a_job_that_is_not_known_is_not_found(call: Caller, redis: Redis) -> None:
    """404 for reading and for cancelling; a name whose job is forgotten says nothing."""
    await Ledger(redis, JOB).note_name()

    answers = [
        await call(method, f"/v1/jobs/{job_id}") for method in ("GET", "DELETE") for job_id in ("1", "299")
    ]

    assert [answer.status for answer in answers] == [404] * 4
    assert all("No such job" in answer.body["error"] for answer in answers)


async def test_of_jobs_with_one_id_one_has_to_be_chosen_by_its_platform(call: Caller) -> None:
    """409 names them; the address counts in whatever form it is given."""
    for platform in (PLATFORM, OTHER_PLATFORM):
        await call.hand_in(payload_of("299", platform=platform))

    either = [await call(method, "/v1/jobs/299") for method in ("GET", "DELETE")]
    chosen = await call("GET", f"/v1/jobs/299?platform={OTHER_PLATFORM}:443/api/")
    cancelled = await call("DELETE", f"/v1/jobs/299?platform={OTHER_PLATFORM}")
    first = await call("GET", f"/v1/jobs/299?platform={PLATFORM}")

    assert [(answer.status, answer.body["platforms"]) for answer in either] == [
        (409, [PLATFORM, OTHER_PLATFORM])
    ] * 2
    assert (chosen.status, chosen.body["platform"]) == (200, OTHER_PLATFORM)
    assert (cancelled.status, cancelled.body) == (202, {"job_id": "299", "platform": OTHER_PLATFORM})
    assert first.body["cancelled"] is None


async def test_a_platform_that_has_no_such_job_is_not_found(call: Caller) -> None:
    """Nor is what is no address, or empty."""
    await call.hand_in(payload_of("299"))

    answers = [await call("GET", f"/v1/jobs/299?platform={one}") for one in (OTHER_PLATFORM, "x", "")]

    assert [answer.status for answer in answers] == [404] * 3


async def test_cancelling_a_job_that_waits_has_its_worker_end_it(call: Caller, redis: Redis) -> None:
    """202, and again 202; the ledger says so to whoever begins it."""
    await call.hand_in(payload_of("299"))

    answers = [await call("DELETE", "/v1/jobs/299") for _ in range(2)]

    assert [answer.status for answer in answers] == [202, 202]
    assert await Ledger(redis, JOB).cancelled() == "it was cancelled."
    assert (await call("GET", "/v1/jobs/299")).body["cancelled"] == "it was cancelled."


async def test_a_job_that_has_ended_can_not_be_cancelled(call: Caller, redis: Redis) -> None:
    """409, and it is still told how it ended."""
    await call.hand_in(payload_of("299"))
    await redis.set(f"{JOB}:end", "COMPLETED 1-1")

    answer = await call("DELETE", "/v1/jobs/299")

    assert (answer.status, answer.body["error"]) == (409, "The job has ended already.")
    assert (await call("GET", "/v1/jobs/299")).body["state"] == "COMPLETED"


async def test_a_cancelled_job_handed_in_again_is_not_run_again(call: Caller) -> None:
    """Within its life it is the same job."""
    first = await call.hand_in(payload_of("299"))
    await call("DELETE", "/v1/jobs/299")

    again = await call.hand_in(payload_of("299"))

    assert again.text == first.text
    assert (await call("GET", "/v1/jobs/299")).body["cancelled"]
