"""The verbs that name no request: files, containers, jobs."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.libsafe.errors import NotFoundError, RejectedError
from worker.notebook import Container, Driver, File, Job, NotebookError, Request, Util, driver
from worker.notebook.local_platform import RunningPlatform

MD5 = "900150983cd24fb0d6963f7d28e17f72"


@pytest.fixture
def request_made(platform: RunningPlatform) -> Iterator[Request]:
    """Make a request, so that verbs know where to go."""
    with Request(None, platform.payload()) as made:
        yield made


def test_metadata_is_a_list_a_dictionary_or_none(
    platform: RunningPlatform, request_made: Request, on_platform: Any
) -> None:
    """A file without metadata has none."""
    first, second, _ = platform.file_ids
    for iecode, value in (("c_title", "One"), ("c_author", "A"), ("c_author", "B")):
        on_platform(lambda platform, i=iecode, v=value: platform.store.add_metadata(first, i, v))

    items = File.get_metadata(first, True)  # noqa: FBT003 - as the platform's users call it
    flat = File.get_metadata(first, as_list=False)

    assert items is not None
    assert [(item.iecode, item.value) for item in items] == [
        ("c_title", "One"),
        ("c_author", "A"),
        ("c_author", "B"),
    ]
    assert flat == {"c_title": "One", "c_author": ["A", "B"]}
    assert Util.format_json_item(items) == Util.format_json_item(flat)
    assert File.get_metadata(second) is None
    assert File.get_metadata(second, as_list=False) is None


def test_a_hash_is_stored(platform: RunningPlatform, request_made: Request) -> None:
    """In lower case, and told to be."""
    file_id = platform.file_ids[0]

    is_stored = File.set_hash(file_id, "md5", "900150983CD24FB0D6963F7D28E17F72")

    assert is_stored
    assert File.get_hashes(file_id) == {"md5": "900150983cd24fb0d6963f7d28e17f72"}


def test_a_hash_that_the_platform_has_no_name_for_becomes_a_message(
    platform: RunningPlatform, request_made: Request, texts: Callable[[str], list[str]]
) -> None:
    """Under the label of an algorithm that we know, or its name in capitals."""
    file_id = platform.file_ids[1]

    stored = [File.set_hash(file_id, name, "0A") for name in ("tlsh", "ssdeep")]

    assert stored == [False, False]
    assert texts(request_made.job_id) == [
        "File hash calculated: TLSH   - 0a",
        "File hash calculated: SSDEEP - 0a",
    ]
    assert File.get_hashes(file_id) == {}


@pytest.mark.parametrize("algorithm", ["md5", "ssdeep"])
@pytest.mark.parametrize(
    "digest", ["", "xyz", "abc", MD5 + " ", "90 01", MD5 + "\n", "\uff10" * 32, MD5.encode(), None, 12]
)
def test_what_is_no_digest_is_not_stored(
    platform: RunningPlatform, request_made: Request, algorithm: str, digest: Any
) -> None:
    """Hexadecimal digits and nothing between them, two a byte, as text."""
    file_id = platform.file_ids[2]
    sentence = f"The {algorithm} hash of file {file_id} has to be a text of hexadecimal digits."

    with pytest.raises(NotebookError, match=f"^{re.escape(sentence)}$"):
        File.set_hash(file_id, algorithm, digest)

    assert File.get_hashes(file_id) == {}


@pytest.mark.parametrize("digits", [30, 34, 64])
def test_a_digest_of_another_length_is_not_stored(
    platform: RunningPlatform, request_made: Request, digits: int
) -> None:
    """A digest of SHA-256 is no MD5."""
    file_id = platform.file_ids[2]
    sentence = f"The md5 hash of file {file_id} has to have 32 hexadecimal digits, not {digits}."

    with pytest.raises(NotebookError, match=f"^{re.escape(sentence)}$"):
        File.set_hash(file_id, "md5", "0" * digits)

    assert File.get_hashes(file_id) == {}


def test_an_algorithm_without_a_name_is_told(platform: RunningPlatform, request_made: Request) -> None:
    """None is what a wrong variable holds."""
    nameless: Any = None

    with pytest.raises(NotebookError, match="A hash algorithm has to be named by a text, not by None"):
        File.set_hash(platform.file_ids[2], nameless, MD5)


def test_records_are_fetched_by_id(platform: RunningPlatform, request_made: Request) -> None:
    """A file, its container, a job and its messages; what is not there is told."""
    request_made.log("Hello")

    file = File.get(platform.file_ids[0])
    container = Container.get(file.container_id)
    job = Job.get(request_made.job_id)
    messages = Job.get_messages(job.id)

    assert (file.fullpath, container.name, job.status) == ("/a.txt", "Local files", "RUNNING")
    assert [message.message for message in messages] == ["Hello"]
    with pytest.raises(NotFoundError, match="999"):
        File.get("999")


def test_an_id_may_be_a_number(platform: RunningPlatform, request_made: Request) -> None:
    """As a table may give it that was read from a file."""
    file_id, job_id = int(platform.file_ids[2]), int(request_made.job_id)

    request_made.log("Hello", file_id=file_id)
    stored = [File.set_hash(file_id, "md5", MD5), File.set_hash(file_id, "ssdeep", "0a")]

    assert stored == [True, False]
    assert (File.get(file_id).id, File.get_metadata(file_id)) == (platform.file_ids[2], None)
    assert File.get_hashes(file_id) == {"md5": MD5}
    assert Container.get(int(File.get(file_id).container_id)).name == "Local files"
    assert Job.get(job_id).id == request_made.job_id
    assert {message.file_id for message in Job.get_messages(job_id)} == {platform.file_ids[2]}


def test_verbs_in_a_block_belong_to_its_request(
    platform: RunningPlatform, texts: Callable[[str], list[str]]
) -> None:
    """In nested blocks to the innermost, whatever requests are made, and begun, beside them."""
    file_id = platform.file_ids[1]
    with Request(None, platform.payload()) as outer:
        File.set_hash(file_id, "one", "01")
        with Request(None, platform.payload()) as inner:
            File.set_hash(file_id, "two", "02")
        File.set_hash(file_id, "three", "03")
        beside = Request(None, platform.payload())
        File.set_hash(file_id, "four", "04")
        beside.job_init()
        File.set_hash(file_id, "five", "05")
    File.set_hash(file_id, "six", "06")
    beside.job_end(is_successful=True)

    told = {
        name: [text[-2:] for text in texts(each.job_id)]
        for name, each in {"outer": outer, "inner": inner, "beside": beside}.items()
    }
    assert told == {"outer": ["01", "03", "04", "05"], "inner": ["02"], "beside": ["06"]}


def test_verbs_leave_a_block_with_whatever_it_raises(platform: RunningPlatform) -> None:
    """Also one that could not be begun."""
    ended = platform.payload()
    with Request(None, ended):
        pass

    with Request(None, platform.payload()) as outer:
        with pytest.raises(RejectedError), Request(None, ended):
            pass
        begun = Driver.current()
        with pytest.raises(ZeroDivisionError), Request(None, platform.payload()):
            raise ZeroDivisionError
        raised = Driver.current()

    assert begun is raised is outer.driver


def test_without_a_block_verbs_belong_to_the_request_made_or_begun_last(platform: RunningPlatform) -> None:
    """As the platform's own library has it."""
    first, second = (Request(None, platform.payload()) for _ in range(2))
    made = Driver.current()
    first.job_init()
    begun = Driver.current()
    first.job_end(is_successful=True)

    assert made is second.driver
    assert begun is first.driver


def test_verbs_need_a_request_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not say which platform they mean."""
    monkeypatch.setattr(driver, "_last", None)

    with pytest.raises(NotebookError, match="make a Request of a payload first"):
        File.get("1")


def test_a_driver_runs_whatever_its_client_can(platform: RunningPlatform, request_made: Request) -> None:
    """In the event loop behind the notebook."""
    made = request_made.driver

    assert made is Driver.current()
    assert made.ask(made.client.job(request_made.job_id)).status == "RUNNING"
