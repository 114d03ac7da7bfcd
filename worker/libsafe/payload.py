"""The payload: the JSON document that the platform sends to a function, with two secret keys in it.

Needed are `api.url`, `api.key_user` and `function_data.job.id`, and `function_data.container.id` unless
`function_data.files.ids` alone names files. Everything else may be missing or null; an empty list passes for
an empty object, as PHP writes it. In the sections that only tell who asked (user, trigger, function), and in
the container's, an id may also be null or empty. Unknown keys pass. Of a key that comes twice the last
counts.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from worker.libsafe.addresses import api_address
from worker.libsafe.errors import Fault, JobAddress, PayloadError
from worker.libsafe.identifiers import Identifier, OptionalIdentifier, identifier
from worker.libsafe.patterns import PathRegex, globs

# A payload of 10,000 ids and 10,000 paths stays below it.
MAX_DOCUMENT_BYTES = 1024 * 1024

_MESSAGES = {
    "missing": "is missing",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "tuple_type": "must be a list",
    "string_type": "must be text",
}


def _text(value: object) -> str:
    """Take text; whatever it is, pydantic's own message would quote it."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueErrors only
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be well-formed unicode") from None
    return value


def _key(value: object) -> str:
    key = _text(value)
    if not key:
        raise ValueError("must not be empty")
    if not all("!" <= character <= "~" for character in key):
        # RFC 6750, section 2.1, allows even less in a bearer token.
        raise ValueError("must be of visible ASCII characters, to be sent in a header")
    return key


def _optional_key(value: object) -> str | None:
    return None if value is None or value == "" else _key(value)


def _path(value: object) -> str:
    path = _text(value)
    if not path.strip("/"):
        raise ValueError("must name a file")
    return path


def _regex(pattern: str) -> str:
    PathRegex(pattern)
    return pattern


def _empty_if_absent(value: object) -> object:
    return {} if value is None or value == [] else value


def _empty_if_null(value: object) -> object:
    return () if value is None else value


def _without_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


_T = TypeVar("_T")
_Section = Annotated[_T, BeforeValidator(_empty_if_absent)]
_Several = Annotated[tuple[_T, ...], BeforeValidator(_empty_if_null), AfterValidator(_without_repeats)]
_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else _text(value))]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Address(_Part):
    url: Annotated[str, BeforeValidator(lambda value: api_address(_text(value)))]
    key_user: Annotated[SecretStr, BeforeValidator(_key)]


class Api(_Address):
    """Where the platform is, and the keys to it."""

    key_root: Annotated[SecretStr | None, BeforeValidator(_optional_key)] = None


class NeededId(_Part):
    """A section that holds an id."""

    id: Identifier


class OptionalId(_Part):
    """A section that may hold an id."""

    id: OptionalIdentifier = None


class Files(_Part):
    """The files that the job is about, by id or by path in the container; each once, in the order given."""

    ids: _Several[Identifier] = ()
    paths: _Several[Annotated[str, BeforeValidator(_path)]] = ()


class Trigger(OptionalId):
    """What made the platform send the payload; on demand, all of it may be empty."""

    type: _Text = ""
    regex: Annotated[_Text, AfterValidator(_regex)] = ""


class Function(OptionalId):
    """The function as the platform knows it."""

    key: _Text = ""


class FunctionData(_Part):
    """What the job is about."""

    container: _Section[OptionalId] = OptionalId()
    user: _Section[OptionalId] = OptionalId()
    files: _Section[Files] = Files()
    job: NeededId
    trigger: _Section[Trigger] = Trigger()
    function: _Section[Function] = Function()


class _FunctionDataOfAddress(_Part):
    job: NeededId


class _AddressOnly(_Part):
    api: _Address
    function_data: _FunctionDataOfAddress


class Payload(_Part):
    """The payload, read and checked; its attributes are named as the document's keys.

    Its repr shows neither keys nor parameters.
    """

    api: Api
    function_data: FunctionData
    function_params: _Section[dict[str, Any]] = Field(default={})

    @classmethod
    def parse(
        cls, document: bytes | str | Mapping[str, Any], *, max_document_bytes: int = MAX_DOCUMENT_BYTES
    ) -> "Payload":
        """Read a payload and check all of it.

        Args:
            document: The JSON text, or what it was decoded to already.
            max_document_bytes: The longest text that is read; what was decoded counts as compact JSON.

        Raises:
            PayloadError: It cannot be used; the error lists every fault and quotes none of the values.
        """
        if isinstance(document, bytes | str):
            document = _decoded(document, max_document_bytes)
        elif _length_bytes(document) > max_document_bytes:
            # Whom to tell is read all the same: that part of it is short, or refused.
            raise PayloadError([_too_long(max_document_bytes)], job=_job_address(document))
        faults, payload = _checked(cls, document)
        faults += _further_faults(document)
        # Raised outside any `except`: pydantic's own error would bring the document, and the keys, along.
        if payload is None or faults:
            raise PayloadError(faults, job=_job_address(document))
        return payload

    @property
    def algorithms(self) -> tuple[str, ...] | None:
        """Tell the names in `function_params["algorithms"]`, each once, or None where none are given.

        Names come as a list, or as one text with commas or blanks between them. They are not looked up here.
        """
        return _algorithm_names(self.function_params.get("algorithms"))

    @property
    def include(self) -> tuple[str, ...]:
        """Give the globs in `function_params["include"]`; see `worker.libsafe.patterns.globs`."""
        return globs(self.function_params.get("include"))

    @property
    def exclude(self) -> tuple[str, ...]:
        """Give the globs in `function_params["exclude"]`."""
        return globs(self.function_params.get("exclude"))

    @property
    def address(self) -> JobAddress:
        """Tell where the job is reported to, and with the user's key."""
        return JobAddress(api_url=self.api.url, key=self.api.key_user, job_id=self.function_data.job.id)

    def secrets(self) -> tuple[str, ...]:
        """Give the keys in the clear, for those who keep them out of logs."""
        keys = (self.api.key_user, self.api.key_root)
        return tuple(key.get_secret_value() for key in keys if key is not None)

    def __repr__(self) -> str:
        data = self.function_data
        files = f"{len(data.files.ids)} ids and {len(data.files.paths)} paths"
        return f"<Payload of job {data.job.id} at {self.api.url}, {files}>"

    __str__ = __repr__


def job_id_in(document: object) -> str | None:
    """Find the job's id in a document that may be no payload, for those who log what became of it."""
    try:
        return identifier(_at(document, "function_data.job.id"))
    except ValueError:
        return None


def _decoded(document: bytes | str, max_document_bytes: int) -> Mapping[str, Any]:
    text = document.encode(errors="surrogatepass") if isinstance(document, str) else document
    if len(text) > max_document_bytes:
        raise PayloadError([_too_long(max_document_bytes)])
    try:
        decoded = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # ValueError: no JSON, no UTF-8, a number of thousands of digits. RecursionError: nested too deep.
        decoded = None
    if not isinstance(decoded, dict):
        # Raised outside the `except`: json's own error holds the whole document.
        raise _whole_fault("must be a JSON object")
    return decoded


def _length_bytes(document: object) -> int:
    try:
        return len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):
        return 0  # no JSON, or text that is none: each field says so


def _too_long(max_document_bytes: int) -> Fault:
    return Fault("payload", f"is longer than {max_document_bytes} bytes")


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and RFC 8259, section 6, does not permit."""
    raise ValueError(name)


def _whole_fault(message: str) -> PayloadError:
    return PayloadError([Fault("payload", message)])


_Model = TypeVar("_Model", bound=BaseModel)


def _checked(model: type[_Model], document: object) -> tuple[list[Fault], _Model | None]:
    if not isinstance(document, Mapping):
        return [Fault("payload", "must be a JSON object")], None
    try:
        return [], model.model_validate(dict(document))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    return [Fault(_dotted(detail["loc"]), _message(detail)) for detail in details], None


def _dotted(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def _message(detail: Mapping[str, Any]) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return _MESSAGES.get(detail["type"], "cannot be used")


def _further_faults(document: object) -> list[Fault]:
    """Find what no single field shows; on the raw document, so that it is listed beside all other faults."""
    faults = []
    if _at(document, "function_data.container.id") in (None, ""):
        if _at(document, "function_data.files.paths"):
            faults.append(Fault("function_data.container.id", "is missing, and files.paths needs it"))
        elif _at(document, "function_data") and not _at(document, "function_data.files.ids"):
            # Otherwise a job could end well that has looked at nothing.
            faults.append(Fault("function_data.container.id", "is missing, and no file is named"))
    for name, check in (("algorithms", _algorithm_names), ("include", globs), ("exclude", globs)):
        path = f"function_params.{name}"
        try:
            check(_at(document, path))
        except ValueError as error:
            faults.append(Fault(path, str(error)))
    return faults


def _at(document: object, path: str) -> object:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _algorithm_names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        names = re.split(r"[,\s]+", value.strip(", \t\r\n"))
        return _without_repeats(tuple(filter(None, names))) or None
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) and name.strip() for name in value
    ):
        raise ValueError("must be a list of names, or one text with commas between them")
    return _without_repeats(tuple(name.strip() for name in value)) or None


def _job_address(document: object) -> JobAddress | None:
    _, found = _checked(_AddressOnly, document)
    if found is None:
        return None
    return JobAddress(api_url=found.api.url, key=found.api.key_user, job_id=found.function_data.job.id)
