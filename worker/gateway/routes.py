"""The routes of the gateway: the one table that both the server and its OpenAPI document are made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web
from pydantic import BaseModel

from worker.gateway.gateway import Gateway
from worker.gateway.models import Accepted, Cancelled, Health, JobProgress

_AWAY = {HTTPStatus.SERVICE_UNAVAILABLE: "The broker is away or full; send the request again later."}
_NOT_ONE_JOB = {
    HTTPStatus.NOT_FOUND: "No such job is known.",
    HTTPStatus.CONFLICT: "Several platforms have a job of this id.",
}


@dataclass(frozen=True)
class Route:
    """One row of the table.

    Args:
        method: In capitals.
        path: A template.
        summary: One sentence for the document.
        answer: Does what the route is for.
        result: What is answered; None is Prometheus' text format.
        status: Of that answer.
        refusals: Other statuses, and what each means.
        takes_payload: Its body is a payload.
        is_open: It needs no token.
    """

    method: str
    path: str
    summary: str
    answer: Callable[[Gateway, web.Request], Awaitable[web.Response]]
    result: type[BaseModel] | None
    status: HTTPStatus = HTTPStatus.OK
    refusals: Mapping[HTTPStatus, str] = field(default_factory=dict)
    takes_payload: bool = False
    is_open: bool = False


ROUTES = (
    Route(
        "POST",
        "/v1/jobs",
        "Hand in a payload. The same job again, until 30 days later, gets the same answer and is run once.",
        Gateway.accept,
        Accepted,
        HTTPStatus.ACCEPTED,
        {
            HTTPStatus.BAD_REQUEST: "The payload can't be used; each fault is told.",
            HTTPStatus.REQUEST_TIMEOUT: "The body did not come in time.",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is longer than 1 MiB.",
            **_AWAY,
        },
        takes_payload=True,
    ),
    Route(
        "GET",
        "/v1/jobs/{job_id}",
        "Tell how far a job is.",
        Gateway.show,
        JobProgress,
        refusals={**_NOT_ONE_JOB, **_AWAY},
    ),
    Route(
        "DELETE",
        "/v1/jobs/{job_id}",
        "Cancel a job: what runs of it stops within seconds, and it ends FAILED.",
        Gateway.cancel,
        Cancelled,
        HTTPStatus.ACCEPTED,
        {
            **_NOT_ONE_JOB,
            HTTPStatus.CONFLICT: "It has ended, it is parked, or several platforms have one of this id.",
            **_AWAY,
        },
    ),
    Route("GET", "/health/live", "Tell that the gateway runs.", Gateway.live, Health, is_open=True),
    Route(
        "GET",
        "/health/ready",
        "Tell whether the broker answers.",
        Gateway.ready,
        Health,
        refusals=_AWAY,
        is_open=True,
    ),
    Route("GET", "/metrics", "Give Prometheus its metrics.", Gateway.show_metrics, None, is_open=True),
)
