"""How the gateway answers, and refuses."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from aiohttp import web
from pydantic import BaseModel

from worker.gateway.models import FaultFound, Refusal

JOB_ID = web.RequestKey("job_id", str)
"""Which job a request is about; kept for the log as soon as it is known and the caller is."""

_RETRY_AFTER_SECONDS = 5


class RefusedError(Exception):
    """A request is answered with an error.

    Args:
        status: The answer's.
        reason: One sentence for whoever asked.
        faults: What is wrong with a payload.
        platforms: Among which one has to be chosen.
        headers: More of the answer's headers.
    """

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        *,
        faults: Iterable[FaultFound] = (),
        platforms: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.refusal = Refusal(error=reason, faults=tuple(faults), platforms=tuple(platforms))
        self.headers = dict(headers or {})


def answer(
    body: BaseModel, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with a model."""
    return _json(body.model_dump_json(), status, headers or {})


def refusal(error: RefusedError) -> web.Response:
    """Answer with an error."""
    return _json(error.refusal.model_dump_json(exclude_defaults=True), error.status, error.headers)


def busy(what: str) -> RefusedError:
    """Make the refusal of what may be asked again soon.

    Args:
        what: The beginning of a sentence.
    """
    return RefusedError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{what}; send the request again, it is done only once.",
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )


def _json(body: str, status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **headers})
