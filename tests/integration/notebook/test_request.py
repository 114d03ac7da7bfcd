"""A request and its job, against a real platform."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import HostNotAllowedError, NotFoundError, PayloadError, RejectedError
from worker.notebook import S3, JobMessage, NotebookError, Request, configure
from worker.notebook.local_platform import RunningPlatform

Texts = Callable[[str], list[str]]
Status = Callable[[str], str]


def test_a_block_begins_the_job_and_ends_it(platform: RunningPlatform, status: Status, texts: Texts) -> None:
    """COMPLETED, where nothing was raised."""
    with Request(None, platform.payload()) as request:
        inside = status(request.job_id)
        request.log("Sample message")

    assert inside == "RUNNING"
    assert (status(request.job_id), texts(request.job_id)) == ("COMPLETED", ["Sample message"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("a key, perhaps"), "its function raised ValueError."),
        (KeyboardInterrupt(), "it was interrupted."),
        (asyncio.CancelledError(), "it was interrupted."),
        (SystemExit(0), "its function raised SystemExit."),
        (NotebookError("This is why."), "This is why."),
    ],
)
def test_what_a_block_raises_ends_the_job(
    platform: RunningPlatform, status: Status, texts: Texts, error: BaseException, reason: str
) -> None:
    """FAILED, with a message that shows no foreign text; the error goes on."""
    with pytest.raises(type(error)), Request(None, platform.payload()) as request:
        raise error

    assert status(request.job_id) == "FAILED"
    assert texts(request.job_id) == [f"ERROR: The job was broken off: {reason}"]


@pytest.mark.parametrize("is_told", [False, True])
def test_an_interrupt_while_a_block_begins_ends_the_job(
    platform: RunningPlatform,
    status: Status,
    texts: Texts,
    monkeypatch: pytest.MonkeyPatch,
    is_told: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whether the platform has it RUNNING by then or not; nobody else would before the kernel ends."""
    request = Request(None, platform.payload())
    set_job_status = PlatformClient.set_job_status

    async def interrupted(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        if is_told:
            await set_job_status(*arguments, **options)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(PlatformClient, "set_job_status", interrupted)

    with pytest.raises(KeyboardInterrupt), request:
        pass

    assert status(request.job_id) == "FAILED"
    assert texts(request.job_id) == ["ERROR: The job was broken off: it was interrupted."]


@pytest.mark.parametrize("raised", [None, ZeroDivisionError()])
def test_an_end_that_the_platform_does_not_take_is_said_to_be_waited_for(
    platform: RunningPlatform,
    status: Status,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception | None,
) -> None:
    """What it waits for, and until when; a cell that stands still says nothing."""
    said, is_said = [], asyncio.Event()
    set_job_status = PlatformClient.set_job_status

    def say(text: str) -> None:
        said.append(text)
        is_said.set()

    async def take_when_it_was_said(*arguments: Any, **options: Any) -> None:
        async with asyncio.timeout(10):
            await is_said.wait()
        await set_job_status(*arguments, **options)

    with suppress(ZeroDivisionError), Request(None, platform.payload()) as request:
        monkeypatch.setattr("worker.notebook.request._PATIENCE_SECONDS", 0.01)
        monkeypatch.setattr(PlatformClient, "set_job_status", take_when_it_was_said)
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=say))
        if raised:
            raise raised

    assert said == [
        (
            f"Job {request.job_id} waits for the platform to take its end; each call is tried up to 8 times "
            "(api.attempts). Ctrl-C gives up and may leave the job RUNNING.\n"
        )
    ]
    assert status(request.job_id) == ("FAILED" if raised else "COMPLETED")


def test_a_job_that_was_ended_in_its_block_stays_so(platform: RunningPlatform, status: Status) -> None:
    """Also when something is raised behind its end."""
    request = Request(None, platform.payload())

    def run() -> None:
        with request:
            request.job_end(is_successful=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert status(request.job_id) == "COMPLETED"


def test_a_job_is_begun_twice_and_ended_once(platform: RunningPlatform, status: Status) -> None:
    """A cell may be run again; a second end is told in one sentence, and so is what comes behind the end."""
    request = Request(None, platform.payload())
    request.job_init()
    request.job_init()

    ended = request.job_end(is_successful=False)
    sentence = f"Job {request.job_id} has ended already, FAILED: begin another one."
    for verb in (lambda: request.job_end(is_successful=True), request.job_init, lambda: request.log("x")):
        with pytest.raises(NotebookError, match=re.escape(sentence)):
            verb()

    assert ended == status(request.job_id) == "FAILED"


def test_a_job_that_the_platform_has_ended_is_not_begun(platform: RunningPlatform) -> None:
    """The platform's own words say so."""
    payload = platform.payload()
    with Request(None, payload):
        pass

    with pytest.raises(RejectedError, match="COMPLETED"):
        Request(None, payload).job_init()


def test_messages_have_types_and_files(platform: RunningPlatform, on_platform: Any) -> None:
    """What the platform has no type for is sent as INFO; whatever is logged becomes text."""
    file_id = platform.file_ids[0]
    with Request(None, platform.payload()) as request:
        request.log("one", JobMessage.JobMessageType.WARNING, file_id)
        request.log({"two": 2})

    found = on_platform(lambda platform: platform.messages(request.job_id))
    assert [(one.message, one.type, one.file_id) for one in found] == [
        ("WARNING: one", "INFO", file_id),
        ("{'two': 2}", "INFO", None),
    ]


@pytest.mark.parametrize(
    "event",
    [
        lambda payload: SimpleNamespace(body=json.dumps(payload)),
        lambda payload: SimpleNamespace(body=json.dumps(payload).encode()),
        lambda payload: SimpleNamespace(body=payload),
        json.dumps,
        lambda payload: payload,
    ],
)
def test_a_payload_comes_in_any_of_its_forms(
    platform: RunningPlatform, event: Callable[[dict[str, Any]], object]
) -> None:
    """As Nuclio gives it, or by itself."""
    payload = platform.payload(your_custom_parameter="value")

    request = Request(None, event(payload))

    assert request.job_id == payload["function_data"]["job"]["id"]
    assert request.parameters == {"your_custom_parameter": "value"}


@pytest.mark.parametrize("one", ["12", 12, ["12"], [12], (12,)])
def test_one_id_is_one(platform: RunningPlatform, one: Any) -> None:
    """Whether as text or as the number that it looks like."""
    assert platform.payload(file_ids=one)["function_data"]["files"] == {"ids": ["12"], "paths": []}


@pytest.mark.parametrize("one", ["/a.txt", PurePosixPath("/a.txt"), ["/a.txt"]])
def test_one_path_of_a_payload_is_one(platform: RunningPlatform, one: Any) -> None:
    """As its letters could be gone through too."""
    assert platform.payload(paths=one)["function_data"]["files"] == {"ids": [], "paths": ["/a.txt"]}


def test_what_is_no_payload_is_told(platform: RunningPlatform) -> None:
    """In one sentence, or by a list of what is wrong; no key is shown by either, nor by the request."""
    payload = platform.payload()
    key = payload["api"]["key_user"]

    with pytest.raises(NotebookError, match="The event has no payload"):
        Request(None, None)
    with pytest.raises(PayloadError, match=r"function_data\.job is missing") as wrong:
        Request(None, {**payload, "function_data": {}})

    assert key not in str(wrong.value) + repr(Request(None, payload))


def test_a_key_goes_only_to_hosts_that_the_settings_name(platform: RunningPlatform) -> None:
    """The settings are read when a request is made."""
    payload = platform.payload()
    configure(api={"allowed_hosts": ["go.example.org"]})
    try:
        with pytest.raises(HostNotAllowedError, match="not on the list of allowed hosts"):
            Request(None, payload)
    finally:
        configure()

    assert Request(None, payload).job_id


def test_files_are_those_that_the_payload_means(platform: RunningPlatform, texts: Texts) -> None:
    """An empty list means the container; what is passed over is counted for the job's users."""
    payload = platform.payload(exclude="*.bin")

    with Request(None, payload) as request:
        found = [(file.id, file.fullpath, file.filename, file.size_bytes) for file in request.Files]

    first, _, last = platform.file_ids
    assert found == [(first, "/a.txt", "a.txt", 3), (last, "/empty", "empty", 0)]
    assert texts(request.job_id) == ["1 file passed over: 1 excluded."]


def test_a_file_that_is_not_there_is_told_and_the_job_fails(
    platform: RunningPlatform, status: Status, texts: Texts
) -> None:
    """It is not passed over in silence, whatever the function says at its end."""
    payload = platform.payload(file_ids=[platform.file_ids[0], "999"], paths=["/no/such"])
    request = Request(None, payload)
    request.job_init()

    found = [file.id for file in request.Files]
    with pytest.warns(UserWarning, match="ended FAILED: 2 files were not read") as warned:
        ended = request.job_end(is_successful=True)

    assert found == platform.file_ids[:1]
    assert warned[0].filename == __file__
    assert ended == status(request.job_id) == "FAILED"
    assert texts(request.job_id) == [
        "ERROR: File 999 can't be read: the platform has no such file.",
        "ERROR: File /no/such can't be read: container 1 has no such file.",
        "ERROR: The job ends FAILED: 2 files were not read.",
    ]


def test_who_only_looks_around_tells_the_platform_nothing(platform: RunningPlatform, texts: Texts) -> None:
    """Before the job runs, and after its end; what is missing is a warning then."""
    request = Request(None, platform.payload(file_ids=[*platform.file_ids, "999"], exclude="*.bin"))

    with pytest.warns(UserWarning, match="File 999 can't be read: the platform has no such file") as warned:
        before = len(list(request.Files))
    with request:
        pass
    with pytest.warns(UserWarning, match="File 999"):
        after = len(list(request.Files))

    assert (before, after) == (2, 2)
    assert warned[0].filename == __file__
    assert texts(request.job_id) == []


def test_a_stream_is_the_files_bytes(platform: RunningPlatform) -> None:
    """Under the file's name."""
    with Request(None, platform.payload()) as request:
        files = list(request.Files)
        streams = [S3.File.get_stream(request.Storage, file) for file in files]
        read = [stream.read() for stream in streams]
        names = [stream.name for stream in streams]

    assert read == [b"abc", bytes(1_000_000), b""]
    assert names == ["/a.txt", "/b.bin", "/empty"]


def test_an_unknown_job_is_told(platform: RunningPlatform) -> None:
    """By the platform; nothing is left to be ended then."""
    payload = platform.payload()
    payload["function_data"]["job"]["id"] = "999"

    with pytest.raises(NotFoundError, match="999"):
        Request(None, payload).job_init()
