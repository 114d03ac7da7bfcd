import copy
import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.libsafe.errors import Fault, PayloadError
from worker.libsafe.payload import MAX_DOCUMENT_BYTES, Payload, job_id_in

SAMPLE = Path(__file__).with_name("sample_payload.json").read_bytes()
SAMPLE_KEY = "1234567890abcdefghijklmnopqrstuvwxyz"
USER_KEY, ROOT_KEY = "user-key-4f1c", "root-key-9d2e"


def _document(**changes: Any) -> dict[str, Any]:
    """Give a small good document; a change is named by its path with `__`, and `...` takes a part out."""
    document: dict[str, Any] = {
        "api": {"url": "https://go.example.org", "key_user": USER_KEY, "key_root": ROOT_KEY},
        "function_data": {
            "container": {"id": "1"},
            "files": {"ids": ["7"], "paths": []},
            "job": {"id": "299"},
        },
    }
    for path, value in changes.items():
        *parents, name = path.split("__")
        part = document
        for parent in parents:
            part = part.setdefault(parent, {})
        if value is ...:
            del part[name]
        else:
            part[name] = value
    return document


def _faults(document: Any) -> dict[str, str]:
    with pytest.raises(PayloadError) as caught:
        Payload.parse(document if isinstance(document, bytes | str | dict) else json.dumps(document))
    return {fault.path: fault.message for fault in caught.value.faults}


def test_the_platforms_sample_payload_is_read_whole() -> None:
    """The platform's own sample, byte for byte, is a payload."""
    payload = Payload.parse(SAMPLE)

    assert payload.api.url == "http://go.libnova.com"
    assert payload.api.key_user.get_secret_value() == SAMPLE_KEY
    assert payload.api.key_root is not None
    assert payload.api.key_root.get_secret_value() == SAMPLE_KEY
    assert payload.function_data.container.id == "1"
    assert payload.function_data.user.id == "1"
    assert payload.function_data.files.ids == ()
    assert payload.function_data.files.paths == ()
    assert payload.function_data.job.id == "299"
    assert payload.function_data.trigger.id == "0"
    assert payload.function_data.trigger.type == ""
    assert payload.function_data.trigger.regex == ""
    assert payload.function_data.function.id == "0"
    assert payload.function_data.function.key == ""
    assert payload.function_params == {"your_custom_parameter": "custom_parameter_value"}
    assert payload.algorithms is None
    assert payload.secrets() == (SAMPLE_KEY, SAMPLE_KEY)


def test_bytes_text_and_a_decoded_document_are_the_same_payload() -> None:
    """A queue may hand over the document as it came or decoded."""
    payloads = [Payload.parse(SAMPLE), Payload.parse(SAMPLE.decode()), Payload.parse(json.loads(SAMPLE))]

    assert payloads[0] == payloads[1] == payloads[2]


def test_url_key_job_and_container_are_enough() -> None:
    """What the job can run without may be missing."""
    payload = Payload.parse(
        {
            "api": {"url": "http://h", "key_user": "k"},
            "function_data": {"job": {"id": 5}, "container": {"id": 1}},
        }
    )

    assert payload.function_data.job.id == "5"
    assert payload.function_data.container.id == "1"
    assert payload.function_data.files.ids == ()
    assert payload.function_params == {}
    assert payload.secrets() == ("k",)


def test_neither_files_nor_a_container_is_a_fault() -> None:
    """Such a job would end well and have looked at nothing."""
    with pytest.raises(PayloadError) as caught:
        Payload.parse({"api": {"url": "http://h", "key_user": "k"}, "function_data": {"job": {"id": 5}}})

    assert [str(fault) for fault in caught.value.faults] == [
        "function_data.container.id is missing, and no file is named"
    ]


@pytest.mark.parametrize("absent", [None, []])
@pytest.mark.parametrize("section", ["container", "user", "files", "trigger", "function"])
def test_an_optional_section_may_be_null_or_an_empty_list(section: str, absent: object) -> None:
    """Null means absent, and an empty list is how PHP writes an empty object."""
    document = _document()
    document["function_data"][section] = absent

    payload = Payload.parse(document)

    assert payload.function_data.job.id == "299"


@pytest.mark.parametrize("params", [..., None, [], {}])
def test_absent_parameters_are_no_parameters(params: object) -> None:
    """A function without parameters is complete."""
    document = _document(function_params={}) if params is ... else _document(function_params=params)

    assert Payload.parse(document).function_params == {}


def test_unknown_keys_pass() -> None:
    """The platform may say more than we know of."""
    payload = Payload.parse(_document(new=1, api__new=[2], function_data__new={"a": None}))

    assert payload == Payload.parse(_document())


def test_ids_may_be_numbers_and_come_once_in_order() -> None:
    """An id is text for us, whatever the platform writes, and a file that is named twice is one file."""
    files = {"ids": [3, "1", "3", 1, 2], "paths": ["/b", "/a", "/b"]}

    payload = Payload.parse(_document(function_data__files=files, function_data__job={"id": 299}))

    assert payload.function_data.files.ids == ("3", "1", "2")
    assert payload.function_data.files.paths == ("/b", "/a")
    assert payload.function_data.job.id == "299"


@pytest.mark.parametrize("value", [True, False, 1.5, 1.0, None, "", " ", [], {}, "a\nb", "\ud800"])
def test_what_is_no_id_is_a_fault(value: object) -> None:
    """An id is text or a whole number; anything else must not be guessed at."""
    faults = _faults(_document(function_data__job={"id": value}, function_data__files={"ids": ["1", value]}))

    assert list(faults) == ["function_data.files.ids[1]", "function_data.job.id"]


def test_an_id_of_thousands_of_digits_is_a_fault() -> None:
    """Python refuses to write such a number as text."""
    assert list(_faults(_document(function_data__job={"id": 10**5000}))) == ["function_data.job.id"]


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("section", ["container", "user", "trigger", "function"])
def test_an_id_that_is_not_needed_may_be_null_or_empty(section: str, value: object) -> None:
    """A periodic trigger has no user."""
    document = _document()
    document["function_data"][section] = {"id": value}

    payload = Payload.parse(document)

    assert getattr(payload.function_data, section).id is None


@pytest.mark.parametrize("container", [..., None, {}, {"id": None}, {"id": ""}])
def test_paths_without_a_container_are_a_fault(container: object) -> None:
    """A path names a file only inside a container."""
    document = _document(function_data__files={"paths": ["/a"]}, function_data__container=container)

    assert _faults(document) == {"function_data.container.id": "is missing, and files.paths needs it"}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://go.libnova.com", "http://go.libnova.com"),
        ("http://go.libnova.com/", "http://go.libnova.com"),
        ("http://go.libnova.com/api", "http://go.libnova.com"),
        ("http://go.libnova.com//api//", "http://go.libnova.com"),
        ("HTTPS://Go.Libnova.com:443/api/", "https://go.libnova.com"),
        ("http://h:8080/libsafe/api", "http://h:8080/libsafe"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://h/capi", "http://h/capi"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
    ],
)
def test_the_platforms_address_is_brought_into_one_form(url: str, address: str) -> None:
    """A slash or /api at the end changes nothing."""
    assert Payload.parse(_document(api__url=url)).api.url == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "go.libnova.com",
        "//go.libnova.com",
        "file:///etc/passwd",
        "ftp://h",
        "http://",
        "http:///path",
        "http://user:password@h",
        "http://user@h",
        "http://h?x=1",
        "http://h/#",
        "http://h/?",
        "http://h:99999",
        "http://h:port",
        "http://h\n.example",
        " http://h",
        "http://a b",
        "http://good\\@evil",
        "http://[::1",
        "http://\ud800",
        5,
        None,
    ],
)
def test_an_address_that_is_none_is_a_fault(url: object) -> None:
    """A key is sent to http and https addresses only, with nothing hidden in them."""
    assert list(_faults(_document(api__url=url))) == ["api.url"]


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "clé", "\x00", 5, None, True, ["k"]])
def test_a_key_that_no_header_can_carry_is_a_fault(key: object) -> None:
    """A key goes into a header; a line break in it would begin another header."""
    assert list(_faults(_document(api__key_user=key))) == ["api.key_user"]


@pytest.mark.parametrize("key", [..., None, ""])
def test_the_roots_key_may_be_absent(key: object) -> None:
    """The job runs with the user's key."""
    payload = Payload.parse(_document(api__key_root=key))

    assert payload.api.key_root is None
    assert payload.secrets() == (USER_KEY,)


def test_every_fault_is_listed_at_once() -> None:
    """Whoever makes the payload corrects it in one go."""
    with pytest.raises(PayloadError) as caught:
        Payload.parse(
            {
                "api": {"url": "ftp://h", "key_user": 5},
                "function_data": {
                    "container": [1],
                    "user": {"id": 1.5},
                    "files": {"ids": [None], "paths": ["/", 1]},
                    "job": {},
                    "trigger": {"type": 1, "regex": "("},
                    "function": {"key": {}},
                },
                "function_params": {"algorithms": 5, "include": 5, "exclude": [5]},
            }
        )

    faults = caught.value.faults
    assert [fault.path for fault in faults] == [
        "api.url",
        "api.key_user",
        "function_data.container",
        "function_data.user.id",
        "function_data.files.ids[0]",
        "function_data.files.paths[0]",
        "function_data.files.paths[1]",
        "function_data.job.id",
        "function_data.trigger.type",
        "function_data.trigger.regex",
        "function_data.function.key",
        "function_data.container.id",
        "function_params.algorithms",
        "function_params.include",
        "function_params.exclude",
    ]
    assert str(caught.value).splitlines()[1:] == [f"  {fault}" for fault in faults]


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"null", b'"text"', b"5", b"\xff\xfe\xfa", "\ud800", b'{"a": NaN}', "[" * 200_000],
)
def test_what_is_no_json_object_is_one_fault(document: bytes | str) -> None:
    """The whole document can be at fault."""
    assert _faults(document) == {"payload": "must be a JSON object"}


def test_what_is_no_document_at_all_is_one_fault() -> None:
    """A queue may hand over anything."""
    with pytest.raises(PayloadError) as caught:
        Payload.parse(5)  # type: ignore[arg-type]  # the point of the test

    assert caught.value.faults == (Fault("payload", "must be a JSON object"),)


def test_a_number_of_thousands_of_digits_is_a_fault_and_no_crash() -> None:
    """Python refuses to read such numbers in its own way."""
    assert _faults(b'{"a": ' + b"9" * 5000 + b"}") == {"payload": "must be a JSON object"}


def test_a_document_of_the_longest_length_is_read_and_one_byte_more_is_not() -> None:
    """The limit is exact."""
    longest = SAMPLE.ljust(MAX_DOCUMENT_BYTES)

    assert Payload.parse(longest) == Payload.parse(SAMPLE)
    assert _faults(longest + b" ") == {"payload": f"is longer than {MAX_DOCUMENT_BYTES} bytes"}


def test_the_limit_counts_the_bytes_of_a_text() -> None:
    """A text is as long as its UTF-8."""
    text = json.dumps(_document(note="é" * 100), ensure_ascii=False)

    with pytest.raises(PayloadError, match="is longer than"):
        Payload.parse(text, max_document_bytes=len(text))
    Payload.parse(text, max_document_bytes=len(text.encode()))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (["md5", "sha1"], ("md5", "sha1")),
        (("md5", "md5"), ("md5",)),
        ([" md5 "], ("md5",)),
        ("md5", ("md5",)),
        ("md5, sha1,blake3", ("md5", "sha1", "blake3")),
        ("md5 sha1\n md5", ("md5", "sha1")),
        (",md5,,", ("md5",)),
        ("", None),
        (" , ", None),
        ([], None),
        (None, None),
    ],
)
def test_algorithms_are_a_list_or_one_text(value: object, names: tuple[str, ...] | None) -> None:
    """A parameter of a function is often but one text field."""
    assert Payload.parse(_document(function_params={"algorithms": value})).algorithms == names


def test_the_globs_are_read_from_the_parameters() -> None:
    """A parameter of a function is often but one text field."""
    payload = Payload.parse(_document(function_params={"include": "*.tif\n*.jpg", "exclude": ["/old/*"]}))

    assert payload.include == ("*.tif", "*.jpg")
    assert payload.exclude == ("/old/*",)


def test_without_globs_there_are_none() -> None:
    """Then every file is included."""
    payload = Payload.parse(_document())

    assert (payload.include, payload.exclude) == ((), ())


def test_faults_of_patterns_are_listed_beside_one_another() -> None:
    """Each with its place, and without its value."""
    params = {"include": {"*.tif": 1}, "exclude": ["x" * 1025]}
    faults = _faults(_document(function_data__trigger={"regex": "a(b"}, function_params=params))

    assert faults == {
        "function_data.trigger.regex": "is no regular expression; look at its character 4",
        "function_params.include": "must be a list of globs, or one text with a glob on each line",
        "function_params.exclude": "has a glob of more than 1024 characters",
    }


@pytest.mark.parametrize("value", [5, True, {}, {"md5": 1}, [5], ["md5", ""], [" "], [None], [["md5"]]])
def test_algorithms_in_another_form_are_a_fault(value: object) -> None:
    """What is not understood is not passed over."""
    faults = _faults(_document(function_params={"algorithms": value}))

    assert list(faults) == ["function_params.algorithms"]


def test_a_faulty_payload_tells_where_its_job_can_be_reported() -> None:
    """With address, key and job the user sees the fault as a message of the job."""
    with pytest.raises(PayloadError) as caught:
        Payload.parse(_document(api__url="http://h/api", api__key_root=5, function_data__files={"ids": 5}))

    job = caught.value.job
    assert job is not None
    assert (job.api_url, job.key.get_secret_value(), job.job_id) == ("http://h", USER_KEY, "299")


@pytest.mark.parametrize("path", ["api", "api__url", "api__key_user", "function_data", "function_data__job"])
def test_without_address_key_or_job_nobody_can_be_told(path: str) -> None:
    """A fault is reported with the payload's own key to the payload's own address, or not at all."""
    with pytest.raises(PayloadError) as caught:
        Payload.parse(_document(**{path: 5}))

    assert caught.value.job is None


def test_no_key_shows_in_a_payload() -> None:
    """Whoever prints or logs a payload gives nothing away."""
    payload = Payload.parse(_document(function_params={"token": USER_KEY}))

    shown = f"{payload} {payload!r} {payload.api} {payload.api!r} {payload.address!r}"
    assert USER_KEY not in shown
    assert ROOT_KEY not in shown
    assert repr(payload) == "<Payload of job 299 at https://go.example.org, 1 ids and 0 paths>"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(_document(function_data=5)),
        json.dumps(_document(function_params={"algorithms": [USER_KEY, 5], "include": [USER_KEY, 5]})),
        json.dumps(_document(function_data__trigger={"regex": f"(?P<{USER_KEY}>a){ROOT_KEY}("})),
        json.dumps(_document(api__url=f"ftp://{USER_KEY}@h/{ROOT_KEY}?{USER_KEY}")),
        json.dumps(_document())[:-1],
        json.dumps(_document()) + "\ud800",
    ],
)
def test_no_key_shows_in_a_fault_nor_in_its_traceback(text: str) -> None:
    """Neither our texts nor the errors of the libraries, which hold the document, come along."""
    with pytest.raises(PayloadError) as caught:
        Payload.parse(text)

    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert USER_KEY not in shown
    assert ROOT_KEY not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


_KEY = "SECRET!!of-this-very-test"
_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(_KEY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_PATHS = (
    ("api",),
    ("api", "url"),
    ("api", "key_user"),
    ("api", "key_root"),
    ("function_data",),
    *(("function_data", name) for name in ("container", "user", "files", "job", "trigger", "function")),
    ("function_data", "container", "id"),
    ("function_data", "job", "id"),
    ("function_data", "files", "ids"),
    ("function_data", "files", "paths"),
    ("function_data", "trigger", "type"),
    ("function_data", "trigger", "regex"),
    ("function_params",),
    ("function_params", "algorithms"),
    ("function_params", "include"),
)


@given(_json_values, st.booleans())
def test_any_json_is_a_payload_or_a_payload_error(document: Any, as_text: bool) -> None:  # noqa: FBT001 - drawn
    """No document can raise anything else."""
    with pytest.raises(PayloadError):
        Payload.parse(json.dumps(document) if as_text else document)


@given(st.lists(st.tuples(st.sampled_from(_PATHS), _json_values), min_size=1, max_size=5))
def test_any_change_to_a_payload_is_a_payload_or_lists_its_faults(
    changes: list[tuple[tuple[str, ...], Any]],
) -> None:
    """Whatever stands in a field, the outcome is one of two, and no secret is told."""
    document: Any = copy.deepcopy(json.loads(SAMPLE))
    document["api"]["key_user"] = document["api"]["key_root"] = _KEY
    for path, value in changes:
        part = document
        for name in path[:-1]:
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[path[-1]] = value

    faults: tuple[Fault, ...] = ()
    try:
        shown = repr(Payload.parse(document))
    except PayloadError as error:
        faults = error.faults
        shown = f"{error} {error!r} {error.job!r}"

    assert shown.startswith("<Payload") != bool(faults)
    assert all(f"\n  {fault}" in shown for fault in faults)
    if _KEY not in json.dumps([value for _, value in changes]):
        assert _KEY not in shown


@given(st.binary(max_size=64))
def test_any_bytes_are_a_payload_error(document: bytes) -> None:
    """Nothing so short is a payload."""
    with pytest.raises(PayloadError):
        Payload.parse(document)


@pytest.mark.parametrize(
    ("document", "job_id"),
    [
        ({"function_data": {"job": {"id": 299}}}, "299"),
        ({"function_data": {"job": {"id": None}}}, None),
        ({"function_data": []}, None),
        (5, None),
    ],
)
def test_the_jobs_id_is_found_in_what_may_be_no_payload(document: object, job_id: str | None) -> None:
    """A log line about a message should name its job where it can."""
    assert job_id_in(document) == job_id


def test_a_decoded_payload_that_is_too_long_tells_whom_to_tell() -> None:
    """It came in a message that others have decoded; its job can still be failed."""
    document = _document(function_params={"note": "x" * 100})
    length_bytes = len(json.dumps(document, separators=(",", ":")).encode())

    Payload.parse(document, max_document_bytes=length_bytes)
    with pytest.raises(PayloadError) as caught:
        Payload.parse(document, max_document_bytes=length_bytes - 1)

    assert caught.value.job == Payload.parse(document).address
    assert "is longer than" in str(caught.value)
