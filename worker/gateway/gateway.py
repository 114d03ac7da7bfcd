"""What the gateway does for each of its routes."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from worker.gateway.answers import JOB_ID, RefusedError, answer, busy
from worker.gateway.metrics import Metrics
from worker.gateway.models import Accepted, Cancelled, FaultFound, Health, JobProgress
from worker.libsafe.addresses import api_address, check_host
from worker.libsafe.errors import Fault, HostNotAllowedError, JobAddress, PayloadError
from worker.libsafe.payload import MAX_DOCUMENT_BYTES, Payload
from worker.queueing.intake import BrokerAwayError, Intake, KnownJob, MessageTooLongError

# A payload of 1 MiB may take 50 MiB while it is looked at.
_MOST_BODIES = 8
_WAIT_SECONDS = 10
_BODY_SECONDS = 10
# A payload of 1 MiB can have 300,000 faults, and the answer would be 20 MB long.
_MOST_FAULTS = 1000


class Gateway:
    """Takes payloads and tells of their jobs.

    Args:
        intake: Of the broker.
        metrics: What Prometheus is given.
        allowed_hosts: The platforms whose payloads are taken.
        token: What callers have to show; None lets everybody in.
    """

    def __init__(
        self, intake: Intake, metrics: Metrics, *, allowed_hosts: Collection[str], token: SecretStr | None
    ) -> None:
        self._intake = intake
        self._metrics = metrics
        self._allowed_hosts = allowed_hosts
        self._token = token
        self._places = asyncio.Semaphore(_MOST_BODIES)

    def __repr__(self) -> str:
        return f"<Gateway, {self._intake!r}>"

    def authorize(self, header: str) -> None:
        """Make sure that a caller may use the routes for jobs.

        Args:
            header: `Authorization`; the scheme's letters may be of any case (RFC 6750, section 2.1).

        Raises:
            RefusedError: There is no token in it, or a wrong one.
        """
        if self._token is None:
            return
        scheme, _, token = header.partition(" ")
        # A header may hold bytes that are no text.
        given = token.strip().encode(errors="surrogateescape")
        is_right = hmac.compare_digest(given, self._token.get_secret_value().encode())
        if scheme.lower() != "bearer" or not is_right:
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "The gateway's token is missing or wrong: send `Authorization: Bearer <token>`.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def accept(self, request: web.Request) -> web.Response:
        """Put a payload on the queue."""
        async with self._place():
            body = await _body_of(request)
            # One that is made to take long takes seconds, in which others are answered.
            address, document = await asyncio.to_thread(self._read, body)
            request[JOB_ID] = address.job_id
            try:
                task_id = await self._intake.accept(address, document)
            except MessageTooLongError:
                raise _too_long() from None
        location = f"/v1/jobs/{quote(address.job_id, safe='')}"
        accepted = Accepted(job_id=address.job_id, task_id=task_id)
        return answer(accepted, HTTPStatus.ACCEPTED, {"Location": location})

    async def show(self, request: web.Request) -> web.Response:
        """Tell how far a job is."""
        job = await self._job(request)
        known = {"job_id": request[JOB_ID], "task_id": job.task_id, "platform": job.platform}
        return answer(JobProgress.model_validate({**known, **job.snapshot.as_json()}))

    async def cancel(self, request: web.Request) -> web.Response:
        """Have a job end."""
        job = await self._job(request)
        if job.snapshot.is_parked:
            raise RefusedError(
                HTTPStatus.CONFLICT, "The job is parked: drop its dead letter, or have it queued again."
            )
        if not await self._intake.cancel(job, "it was cancelled."):
            raise RefusedError(HTTPStatus.CONFLICT, "The job has ended already.")
        return answer(Cancelled(job_id=request[JOB_ID], platform=job.platform), HTTPStatus.ACCEPTED)

    async def live(self, _: web.Request) -> web.Response:
        """Tell that the event loop turns."""
        return answer(Health(is_well=True))

    async def ready(self, _: web.Request) -> web.Response:
        """Tell whether the broker answers."""
        await self._intake.check()
        return answer(Health(is_well=True))

    async def show_metrics(self, _: web.Request) -> web.Response:
        """Give Prometheus what it asks for, whether or not the broker answers."""
        try:
            lengths = await self._intake.lengths()
        except BrokerAwayError:
            lengths = None
        return web.Response(body=self._metrics.text(lengths), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold a place for a body in memory."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise busy("The gateway has too many payloads in hand") from None
        try:
            yield
        finally:
            self._places.release()

    def _read(self, body: bytes) -> tuple[JobAddress, dict[str, Any]]:
        """Check a payload, and whether its platform is served."""
        faults: list[Fault] = []
        try:
            address: JobAddress | None = Payload.parse(body).address
        except PayloadError as error:
            address = error.job
            faults += error.faults
        if address is not None:
            try:
                check_host(address.api_url, self._allowed_hosts)
            except HostNotAllowedError as error:
                faults.append(Fault("api.url", str(error)))
        if faults or address is None:
            raise _unusable(faults)
        return address, json.loads(body)

    async def _job(self, request: web.Request) -> KnownJob:
        """Find the one job that a request is about."""
        job_id = request[JOB_ID] = request.match_info["job_id"]
        jobs = await self._intake.jobs(job_id)
        if "platform" in request.query:
            platform = _one_form(request.query["platform"])
            jobs = [job for job in jobs if job.platform == platform]
        if not jobs:
            raise RefusedError(HTTPStatus.NOT_FOUND, "No such job is known, or it ended long ago.")
        if len(jobs) > 1:
            raise RefusedError(
                HTTPStatus.CONFLICT,
                "Several platforms have a job of this id: choose one by ?platform=<its address>.",
                platforms=[job.platform for job in jobs],
            )
        return jobs[0]


async def _body_of(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_DOCUMENT_BYTES:
        raise _too_long()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        reason = f"The body did not come within {_BODY_SECONDS} s."
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, reason) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_long() from None
    except (web.RequestPayloadError, ConnectionError):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The body can't be read to its end.") from None


def _too_long() -> RefusedError:
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The payload is longer than {MAX_DOCUMENT_BYTES} bytes, or the message made of it than workers "
        "take: name fewer files in one job.",
    )


def _unusable(faults: Collection[Fault]) -> RefusedError:
    told = [FaultFound(where=fault.path, what=fault.message) for fault in list(faults)[:_MOST_FAULTS]]
    more = f"; it has {len(faults)} faults, the first are told" if len(faults) > len(told) else ""
    reason = f"The payload cannot be used: correct it where it is made and send it again{more}."
    return RefusedError(HTTPStatus.BAD_REQUEST, reason, faults=told)


def _one_form(platform: str) -> str | None:
    try:
        return api_address(platform)
    except ValueError:
        return None
