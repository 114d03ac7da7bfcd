"""The jobs API over HTTP: the route table on an aiohttp server.

The server is also the other side of benchmarks, so a request is cheap. SQLite is called in the event loop: a
message costs 40 µs of it there, no more than the way to a thread and back.
"""

import hashlib
import json
import os
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError

from worker.local.errors import (
    ConflictError,
    NoSuchKeyError,
    NoSuchRecordError,
    NotAllowedError,
    StartError,
    StoreError,
)
from worker.local.models import ID_PATTERN, IDEMPOTENCY_KEY_PATTERN, Health
from worker.local.openapi import document
from worker.local.routes import ROUTES, Call, Route
from worker.local.store import PlatformStore, Repeatable

_STATUS: Mapping[type[StoreError], HTTPStatus] = {
    NoSuchKeyError: HTTPStatus.UNAUTHORIZED,
    NotAllowedError: HTTPStatus.FORBIDDEN,
    NoSuchRecordError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
}

_ID = re.compile(ID_PATTERN)
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN)
_HEADERS = {"Content-Type": "application/json"}

log = structlog.get_logger()


class _RefusedError(Exception):
    """The request itself is wrong.

    Args:
        status: What to answer.
        reason: One sentence for the client.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def jobs_api(store: PlatformStore) -> web.Application:
    """Return the application that serves a store; the store stays the caller's to close."""
    app = web.Application(middlewares=[_always_an_envelope])
    for route in ROUTES:
        path = route.path.replace("{path}", r"{path:[\s\S]+}")
        app.router.add_route(route.method, path, partial(_answer, store, route))
    openapi = json.dumps(document()).encode()
    health = _succeeded(Health().model_dump_json().encode())
    app.router.add_route("GET", "/api/openapi.json", partial(_constant, openapi))
    app.router.add_route("GET", "/api/health", partial(_constant, health))
    return app


@asynccontextmanager
async def serve(app: web.Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve an application while the block runs.

    Args:
        app: What to serve.
        host: The address to listen on.
        port: 0 takes a free one.

    Yields:
        The base URL, without `/api`.

    Raises:
        StartError: It can't listen there.
    """
    # No access lines: each request would write one that nobody reads. Requests in flight get a second to end.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = os.strerror(error.errno or 0)  # asyncio's own text tells the address again
            raise StartError(f"The jobs API can't listen at {host}, port {port}: {reason}.") from None
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _answer(store: PlatformStore, route: Route, request: web.Request) -> web.Response:
    """Check a request in the order key, record, body, and answer it."""
    access = store.access(_key(request))
    record_id = request.match_info[f"{route.kind}_id"]
    if not _ID.fullmatch(record_id):
        raise NoSuchRecordError(f"There is no such {route.kind}: an id is digits.")
    store.check(access, route.kind, record_id)
    raw = await request.read() if route.body else b""
    call = Call(
        record_id=record_id,
        path=request.match_info.get("path", ""),
        body=route.body and _parse(partial(route.body.model_validate_json, raw)),
        query=route.query and _parse(partial(route.query.model_validate, _query(request))),
    )

    def do() -> bytes:
        return _succeeded(route.adapter.dump_json(route.answer(store, call)))

    return _json(store.once(access, _repeatable(request, raw), do) if route.body else do())


def _key(request: web.Request) -> str:
    """Return the bearer key (RFC 6750, section 2.1); the scheme's letters may be of any case."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise NoSuchKeyError("This request carries no key: send `Authorization: Bearer <key>`.")
    return key.strip()


def _query(request: web.Request) -> dict[str, str]:
    query = dict(request.query)
    if len(query) != len(request.query):
        raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "A parameter of the query came twice.")
    return query


def _parse(validate: Callable[[], Any]) -> Any:
    try:
        return validate()
    except ValidationError as error:
        # The values stay out of the answer: a body may hold anything.
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        if faults[0]["type"] == "json_invalid":
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from error
        reasons = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults
        )
        raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, reasons) from error


def _repeatable(request: web.Request, body: bytes) -> Repeatable | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise _RefusedError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "Idempotency-Key must be 1 to 255 printable ASCII characters."
        )
    return Repeatable(f"{request.method} {request.path}", key, hashlib.sha256(body).digest())


@web.middleware
async def _always_an_envelope(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn whatever goes wrong into the envelope with its status."""
    try:
        return await handler(request)
    except StoreError as error:
        return _failed(_STATUS[type(error)], str(error))
    except _RefusedError as error:
        return _failed(error.status, str(error))
    except web.HTTPException as error:
        answer = _failed(HTTPStatus(error.status), f"{error.reason}: see /api/openapi.json for the routes.")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an envelope
        # As text, since a renderer may add the frames' variables, and one of them is the key.
        trace = "".join(traceback.format_exception(error))
        log.error("A request met a bug", method=request.method, path=request.path, trace=trace)  # noqa: TRY400 - the same
        return _failed(HTTPStatus.INTERNAL_SERVER_ERROR, "The local platform has a bug: see its log.")


async def _constant(body: bytes, _: web.Request) -> web.Response:
    return _json(body)


def _succeeded(result: bytes) -> bytes:
    return b'{"success":true,"result":' + result + b',"msg":""}'


def _failed(status: HTTPStatus, reason: str) -> web.Response:
    answer = _json(json.dumps({"success": False, "result": None, "msg": reason}).encode(), status)
    if status is HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _json(body: bytes, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(body=body, status=status, headers=_HEADERS)
