"""The addresses of the jobs API, and the rule that makes an object's key, as templates.

The vendor has published `GET /api/container/{id}/file/path/{path}` and no other route of those below, nor how
a file's record becomes an S3 key. **All other defaults are ours**: they are what `worker/local` serves, and
are to be set to what your platform has.
"""

from dataclasses import dataclass, fields
from string import Formatter
from urllib.parse import quote

from worker.libsafe.errors import NotFoundError

_OBJECT_KEY_FIELDS = frozenset({"key_prefix", "container_id", "file_id", "path"})
# What the platform gives each route; a route that left one out would send every file to one address.
_ROUTE_FIELDS: dict[str, frozenset[str]] = {
    "job": frozenset({"job_id"}),
    "job_message": frozenset({"job_id"}),
    "file": frozenset({"file_id"}),
    "file_metadata": frozenset({"file_id"}),
    "file_hash": frozenset({"file_id"}),
    "container": frozenset({"container_id"}),
    "container_file_by_path": frozenset({"container_id", "path"}),
    "container_files": frozenset({"container_id"}),
    "storage": frozenset({"storage_id"}),
}


@dataclass(frozen=True, slots=True)
class Routes:
    """Keep every route, without the `<api.url>` before it, and the rule for object keys.

    Raises:
        ValueError: A template has an unknown field, lacks one that it needs, or does not begin with a slash.
    """

    job: str = "/api/job/{job_id}"
    job_message: str = "/api/job/{job_id}/message"
    file: str = "/api/file/{file_id}"
    file_metadata: str = "/api/file/{file_id}/metadata"
    file_hash: str = "/api/file/{file_id}/hash"
    container: str = "/api/container/{container_id}"
    container_file_by_path: str = "/api/container/{container_id}/file/path/{path}"
    container_files: str = "/api/container/{container_id}/file/list"
    storage: str = "/api/storage/{storage_id}"
    object_key: str = "{key_prefix}{path}"

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_template(field.name, getattr(self, field.name))

    def path(self, route: str, **values: str) -> str:
        """Fill a route; the values are percent-encoded but for the slashes of `path` (RFC 3986, section 3.3).

        Raises:
            NotFoundError: A value has a segment "." or "..": it would name another place on the way
                (RFC 3986, section 5.2.4), so nothing can be there under this name.
        """
        for name, value in values.items():
            segments = value.split("/") if name == "path" else [value]
            if not {".", ".."}.isdisjoint(segments):
                raise NotFoundError(f"Nothing on the platform can have the {name} {value!r}; correct it.")
        template: str = getattr(self, route)
        return template.format_map(
            {name: quote(value, safe="/" if name == "path" else "") for name, value in values.items()}
        )

    def key_of_object(self, *, key_prefix: str, container_id: str, file_id: str, path: str) -> str:
        """Tell the S3 key of a file's object; `path` is without its leading slash, nothing is encoded."""
        return self.object_key.format(
            key_prefix=key_prefix, container_id=container_id, file_id=file_id, path=path
        )


def _check_template(name: str, template: str) -> None:
    try:
        found = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise ValueError(f"The template {name} cannot be read: {error}.") from None
    known = _ROUTE_FIELDS.get(name, _OBJECT_KEY_FIELDS)
    unknown = sorted(found - known)
    if unknown:
        raise ValueError(
            f"The template {name} has the unknown field {{{unknown[0]}}}; "
            f"it may have {', '.join(sorted(known))}."
        )
    if name == "object_key":
        if found.isdisjoint({"file_id", "path"}):
            raise ValueError(
                "The template object_key needs {path} or {file_id}, or all files would share one object."
            )
    elif found != known:
        raise ValueError(f"The template {name} lacks the field {{{min(known - found)}}}.")
    elif not template.startswith("/"):
        raise ValueError(f"The template {name} must begin with a slash; it follows the platform's address.")
