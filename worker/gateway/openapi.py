"""The gateway's OpenAPI 3.1 document, made from the route table: `python -m worker.gateway.openapi`."""

import json
import sys
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter

from worker.gateway.models import Refusal
from worker.gateway.routes import ROUTES, Route
from worker.libsafe.payload import Payload

_DESCRIPTION = """\
Triggers hand in the payload that the platform sends to a function, and ask what became of its job.

A payload that was accepted is on the queue. Whoever had no answer, or 503, sends it again: it is put there
once."""

_PAYLOAD = """\
The payload as the platform sends it, up to 1 MiB. Ids may be numbers, sections that only tell who asked may
be missing, null or empty, and unknown keys pass. `api.url` has to be of a host that the gateway's settings
allow. Without a container `files.ids` has to name files."""

_MODELS = "#/components/schemas/{model}"
_NO_TOKEN = {HTTPStatus.UNAUTHORIZED: "The token is missing or wrong."}


def document() -> dict[str, Any]:
    """Return the OpenAPI document as plain JSON values."""
    schemas, models = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": models},
    }


def _schemas() -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return the schemas by their class, and the models that they refer to."""
    answers: list[type[BaseModel]] = [Refusal, *(route.result for route in ROUTES if route.result)]
    wanted: list[tuple[type[BaseModel], Any, TypeAdapter[Any]]] = [
        (Payload, "validation", TypeAdapter(Payload)),
        *((model, "serialization", TypeAdapter(model)) for model in dict.fromkeys(answers)),
    ]
    schemas, shared = TypeAdapter.json_schemas(wanted, ref_template=_MODELS)
    return {model: schema for (model, _), schema in schemas.items()}, shared["$defs"]


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    result = _json(schemas[route.result]) if route.result else {"text/plain": {"schema": {"type": "string"}}}
    refusals = route.refusals if route.is_open else {**_NO_TOKEN, **route.refusals}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "responses": {
            str(route.status.value): {"description": "Done.", "content": result},
            **{
                str(status.value): {"description": text, "content": _json(schemas[Refusal])}
                for status, text in sorted(refusals.items())
            },
        },
    }
    if "{job_id}" in route.path:
        operation["parameters"] = _parameters()
    if route.takes_payload:
        operation["requestBody"] = {
            "required": True,
            "description": _PAYLOAD,
            "content": _json(schemas[Payload]),
        }
    if route.is_open:
        operation["security"] = []
    return operation


def _parameters() -> list[dict[str, Any]]:
    about = "The `api.url` of the job's payload; needed where several platforms have such a job."
    return [
        {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
        {"name": "platform", "in": "query", "description": about, "schema": {"type": "string"}},
    ]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")
