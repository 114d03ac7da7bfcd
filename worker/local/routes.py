"""The routes of the jobs API: the one table that both the server and its OpenAPI document are made from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter

from worker.local.models import (
    Container,
    File,
    FileHash,
    Job,
    Message,
    MetadataItem,
    NewMessage,
    Page,
    StatusChange,
    Storage,
)
from worker.local.store import PlatformStore


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked.

    Args:
        record_id: The id in the path.
        path: The rest of the path, decoded; empty where the route has none.
        body: An instance of the route's body model; None where it has none.
        query: An instance of the route's query model; None where it has none.
    """

    record_id: str
    path: str
    body: Any
    query: Any


@dataclass(frozen=True)
class Route:
    """One row of the table.

    Args:
        method: In capitals. A route with a body is a write.
        path: A template below the base; it begins with a kind of record and its id.
        summary: One sentence for the document.
        result: The type of the envelope's `result`.
        answer: Does what the route is for, in microseconds: it runs in the event loop.
        body: The body's model.
        query: The model of the query string.

    Attributes:
        kind: The kind of record that the path begins with, such as `job`.
        adapter: Writes the result as JSON.
    """

    method: str
    path: str
    summary: str
    result: Any
    answer: Callable[[PlatformStore, Call], Any]
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    kind: str = field(init=False)
    adapter: TypeAdapter[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Once a route and not once a request: making an adapter costs milliseconds.
        object.__setattr__(self, "kind", self.path.split("/")[2])
        object.__setattr__(self, "adapter", TypeAdapter(self.result))


ROUTES = (
    Route(
        "GET",
        "/api/job/{job_id}",
        "Read a job.",
        Job,
        lambda store, call: store.job(call.record_id),
    ),
    Route(
        "PUT",
        "/api/job/{job_id}",
        "Set a job's status; a job that has ended keeps its end.",
        Job,
        lambda store, call: store.set_status(call.record_id, call.body.status),
        body=StatusChange,
    ),
    Route(
        "POST",
        "/api/job/{job_id}/message",
        "Add a message to a job.",
        Message,
        lambda store, call: store.add_message(call.record_id, call.body),
        body=NewMessage,
    ),
    Route(
        "GET",
        "/api/job/{job_id}/message",
        "Read a job's messages, the oldest first.",
        list[Message],
        lambda store, call: store.messages(call.record_id),
    ),
    Route(
        "GET",
        "/api/file/{file_id}",
        "Read a file's record.",
        File,
        lambda store, call: store.file(call.record_id),
    ),
    Route(
        "GET",
        "/api/file/{file_id}/metadata",
        "Read a file's metadata.",
        list[MetadataItem],
        lambda store, call: store.metadata(call.record_id),
    ),
    Route(
        "GET",
        "/api/file/{file_id}/hash",
        "Read a file's stored hashes.",
        list[FileHash],
        lambda store, call: store.hashes(call.record_id),
    ),
    Route(
        "PUT",
        "/api/file/{file_id}/hash",
        "Store a file's hash in the place of an older one.",
        FileHash,
        lambda store, call: store.set_hash(call.record_id, call.body),
        body=FileHash,
    ),
    Route(
        "GET",
        "/api/container/{container_id}",
        "Read a container.",
        Container,
        lambda store, call: store.container(call.record_id),
    ),
    Route(
        "GET",
        "/api/container/{container_id}/file/path/{path}",
        "Find a file by its path.",
        File,
        lambda store, call: store.file_at(call.record_id, call.path),
    ),
    Route(
        "GET",
        "/api/container/{container_id}/file/list",
        "Read a page of a container's files by ascending id; one shorter than the limit is the last.",
        list[File],
        lambda store, call: store.files(call.record_id, call.query),
        query=Page,
    ),
    Route(
        "GET",
        "/api/storage/{storage_id}",
        "Read where a container's objects are.",
        Storage,
        lambda store, call: store.storage(call.record_id),
    ),
)
