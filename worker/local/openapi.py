"""The jobs API's OpenAPI 3.1 document, made from the route table: `python -m worker.local.openapi`."""

import json
import re
import sys
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter

from worker.local.models import ID_PATTERN, IDEMPOTENCY_KEY_PATTERN, Health
from worker.local.routes import ROUTES, Route

_DESCRIPTION = """\
The jobs API as the platform on this machine serves it.

**The routes for jobs, messages, hashes and file records are this project's own defaults. They are not
published by the vendor**: a real platform may name them otherwise, and the worker's settings hold a template
for each. Published are the bearer key, the base `<api.url>/api`, the envelope,
`GET /api/container/{container_id}/file/path/{path}`, the statuses RUNNING, COMPLETED and FAILED, the message
type INFO, and the hash names md5, sha1 and sha256.

Each answer is an envelope, `{"success", "result", "msg"}`; `msg` says why where `success` is false."""

_MODELS = "#/components/schemas/{model}"

_ERRORS = {
    HTTPStatus.UNAUTHORIZED: "No key, or one that is not known.",
    HTTPStatus.FORBIDDEN: "The key may not see this record.",
    HTTPStatus.NOT_FOUND: "There is no such record.",
}
_QUERY_ERRORS = {HTTPStatus.UNPROCESSABLE_ENTITY: "The query does not fit."}
_WRITE_ERRORS = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON.",
    HTTPStatus.CONFLICT: "It contradicts what is stored, or the Idempotency-Key came with another body.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than 1 MiB.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The body does not fit.",
}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeated key on the same route gets the first answer again, and nothing is done twice.",
    "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY_PATTERN},
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document as plain JSON values."""
    schemas, models = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths["/api/health"] = {"get": _open("Tell that the server answers.", _envelope(schemas["health"]))}
    paths["/api/openapi.json"] = {"get": _open("Read this document.", {"type": "object"})}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jobs API", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": models | {"Refusal": _refusal()},
        },
    }


def _schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schemas of results and bodies by route, and the models that they refer to."""
    wanted: list[tuple[str, Any, TypeAdapter[Any]]] = [("health", "serialization", TypeAdapter(Health))]
    for route in ROUTES:
        wanted.append((_result_of(route), "serialization", route.adapter))
        if route.body:
            wanted.append((_body_of(route), "validation", TypeAdapter(route.body)))
    schemas, shared = TypeAdapter.json_schemas(wanted, ref_template=_MODELS)
    return {name: schema for (name, _), schema in schemas.items()}, shared["$defs"]


def _result_of(route: Route) -> str:
    return f"result of {route.method} {route.path}"


def _body_of(route: Route) -> str:
    return f"body of {route.method} {route.path}"


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    errors = _ERRORS | (_WRITE_ERRORS if route.body else {}) | (_QUERY_ERRORS if route.query else {})
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)],
        "responses": {
            "200": _response("Done.", _envelope(schemas[_result_of(route)])),
            **{
                str(status.value): _response(text, {"$ref": _MODELS.format(model="Refusal")})
                for status, text in sorted(errors.items())
            },
        },
    }
    if route.query:
        operation["parameters"] += _query_parameters(route.query)
    if route.body:
        operation["parameters"].append(_IDEMPOTENCY_KEY)
        operation["requestBody"] = {"required": True, "content": _json(schemas[_body_of(route)])}
    return operation


def _open(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "security": [], "responses": {"200": _response("Done.", schema)}}


def _path_parameter(name: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "path", "required": True}
    if name == "path":
        text = "Without leading slash, percent-encoded; slashes may stay."
        return parameter | {"description": text, "schema": {"type": "string", "minLength": 1}}
    return parameter | {"schema": {"type": "string", "pattern": ID_PATTERN}}


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    properties = model.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema["description"],
            "schema": {key: schema[key] for key in schema if key not in {"description", "title"}},
        }
        for name, schema in properties.items()
    ]


def _envelope(result: dict[str, Any]) -> dict[str, Any]:
    return _object(success={"const": True}, result=result, msg={"type": "string"})


def _refusal() -> dict[str, Any]:
    return _object(success={"const": False}, result={"type": "null"}, msg={"type": "string", "minLength": 1})


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")
