"""The gateway over HTTP: the route table as an aiohttp application."""

import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

import structlog
from aiohttp import web

from worker.gateway.answers import JOB_ID, RefusedError, busy, refusal
from worker.gateway.gateway import Gateway
from worker.gateway.metrics import Metrics
from worker.gateway.routes import ROUTES, Route
from worker.libsafe.payload import MAX_DOCUMENT_BYTES
from worker.queueing.intake import BrokerAwayError

_ROUTE = web.RequestKey("route", str)
_NO_ROUTE = "other"
_LOGGED = frozenset({"POST", "DELETE"})

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger(__name__)


def make_application(gateway: Gateway, metrics: Metrics) -> web.Application:
    """Make the application that serves a gateway; each request is counted in the metrics."""

    @web.middleware
    async def observe(request: web.Request, handler: _Handler) -> web.StreamResponse:
        began = time.perf_counter()
        answer = await _answer_to(request, handler)
        route = request.get(_ROUTE, _NO_ROUTE)
        metrics.note(route, request.method, answer.status, time.perf_counter() - began)
        if request.method in _LOGGED:
            _log.info(
                "A request was answered",
                method=request.method,
                route=route,
                status=answer.status,
                job_id=request.get(JOB_ID),
            )
        return answer

    app = web.Application(middlewares=[observe], client_max_size=MAX_DOCUMENT_BYTES)
    for route in ROUTES:
        # Braces, too, may be in an id.
        path = route.path.replace("{job_id}", "{job_id:[^/]+}")
        app.router.add_route(route.method, path, partial(_do, gateway, route))
    app.on_response_prepare.append(_drop_banner)
    return app


async def _do(gateway: Gateway, route: Route, request: web.Request) -> web.StreamResponse:
    request[_ROUTE] = route.path
    if not route.is_open:
        gateway.authorize(request.headers.get("Authorization", ""))
    return await route.answer(gateway, request)


async def _answer_to(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Give the answer, whatever goes wrong."""
    try:
        return await handler(request)
    except RefusedError as error:
        return refusal(error)
    except BrokerAwayError:
        return refusal(busy("The broker is away or full"))
    except web.HTTPException as error:
        headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return refusal(
            RefusedError(
                HTTPStatus(error.status), f"{error.reason}: there is no such route.", headers=headers
            )
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
        # Neither its text nor the frames' variables: both may quote a payload.
        trace = "".join(traceback.format_tb(error.__traceback__))
        _log.error("A request met a bug", error=type(error).__name__, trace=trace)
        return refusal(RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway has a bug: see its log."))


async def _drop_banner(_: web.Request, answer: web.StreamResponse) -> None:
    """Tell nobody which versions run here."""
    answer.headers.pop("Server", None)
