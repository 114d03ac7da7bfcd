"""What is shown of a task's arguments."""

from typing import Any

import pytest

from worker.queueing.arguments import job_id, shown

KEY = "a-key-that-nobody-may-see"
JOB = "hash-worker:job:https://go.example.org/job/299"


def payload(**files: Any) -> dict[str, Any]:
    """Make a payload whose every secret is the key."""
    return {
        "api": {"url": "https://go.example.org", "key_user": KEY, "key_root": KEY},
        "function_data": {"job": {"id": "299"}, "container": {"id": "1"}, "files": files},
        "function_params": {"secret": KEY},
    }


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (payload(), "job 299: its container"),
        (payload(ids=["7"]), "job 299: 1 file or folder"),
        (payload(ids=["7"], paths=["/a", "/b"]), "job 299: 3 files and folders"),
        ({"job": JOB, "batch": 3}, "job 299: batch 3"),
        ({"job": JOB, "batch": 0}, "job 299: batch 0"),
    ],
)
def test_arguments_are_shown_as_the_job_and_what_of_it_is_asked_for(
    document: dict[str, Any], text: str
) -> None:
    """An operator recognises the task, and sees no key."""
    assert shown([document]) == text
    assert job_id([document]) == "299"


@pytest.mark.parametrize(
    "arguments",
    [None, [], [KEY], [{"job": KEY}], [{"function_data": KEY}], [[KEY]], {"api": KEY}, KEY, 3],
)
def test_arguments_that_are_no_payload_are_shown_as_nothing(arguments: Any) -> None:
    """Any producer can send anything, and any of it may be a key."""
    assert shown(arguments) == "no payload"


@pytest.mark.parametrize("files", [KEY, {"ids": KEY}, {"ids": None}, None])
def test_files_that_are_no_list_are_not_shown(files: Any) -> None:
    """The payload is not checked when it is shown."""
    document = {"function_data": {"job": {"id": "299"}, "files": files}}

    assert shown([document]) == "job 299: its container"


def test_a_long_id_is_cut() -> None:
    """Lines and events stay short, whoever chose the id."""
    assert len(shown([{"function_data": {"job": {"id": "9" * 250}}}])) < 120
