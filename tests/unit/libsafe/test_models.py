from typing import Any

import pytest
from pydantic import ValidationError

from worker.libsafe.models import TERMINAL, FileRecord, FileType, Job, JobMessage, JobStatus, Storage

FILE: dict[str, Any] = {
    "id": "7",
    "container_id": "1",
    "filename": "a b.txt",
    "fullpath": "/dir/a b.txt",
    "size": 3,
    "type": "FILE",
    "deleted": 0,
    "storage_class_id": "2",
}


def test_a_file_record_is_read() -> None:
    """Each field of the platform's record has its place."""
    record = FileRecord.model_validate(FILE)

    assert record.id == "7"
    assert record.size_bytes == 3
    assert record.type is FileType.FILE
    assert record.deleted is False
    assert record.storage_class_id == "2"
    assert record.path == "dir/a b.txt"


def test_ids_as_numbers_and_unknown_keys_are_tolerated() -> None:
    """The platform writes ids either way and may tell more than we know of."""
    loose = {**FILE, "id": 7, "container_id": 1, "storage_class_id": 2, "mime": "text/plain", "parent": None}

    assert FileRecord.model_validate(loose) == FileRecord.model_validate(FILE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", True),
        ("id", 1.0),
        ("id", ""),
        ("container_id", None),
        ("fullpath", 5),
        ("size", -1),
        ("size", "3"),
        ("size", 3.0),
        ("size", True),
        ("size", None),
        ("type", "LINK"),
        ("deleted", 2),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(field: str, value: object) -> None:
    """A digest hangs on these fields, so none of them is guessed."""
    with pytest.raises(ValidationError) as caught:
        FileRecord.model_validate({**FILE, field: value})

    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_a_record_cannot_be_changed() -> None:
    """What the platform said stays as it was said."""
    record = FileRecord.model_validate(FILE)

    with pytest.raises(ValidationError):
        record.id = "8"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_published_status_is_running_or_terminal(status: JobStatus) -> None:
    """A job runs, or it has ended."""
    job = Job.model_validate({"id": 1, "status": status.value})

    assert job.status is status
    assert (status is JobStatus.RUNNING) != (status in TERMINAL)


def test_a_status_that_is_not_published_stays_text_and_is_not_terminal() -> None:
    """The vendor has more statuses than it has published; none of them is a reason to fail."""
    job = Job.model_validate({"id": 1, "status": "QUEUED"})

    assert job.status == "QUEUED"
    assert job.status not in TERMINAL


def test_a_storage_of_aws_has_no_endpoint_and_may_have_no_prefix() -> None:
    """Null is AWS for the endpoint and nothing for the prefix."""
    storage = Storage.model_validate({"id": 1, "bucket": "b", "endpoint": None, "key_prefix": None})

    assert storage == Storage(id="1", bucket="b", endpoint=None, region=None, key_prefix="")


def test_a_storage_without_a_bucket_is_refused() -> None:
    """An empty bucket would be read as the first part of the key."""
    with pytest.raises(ValidationError):
        Storage.model_validate({"id": 1, "bucket": ""})


def test_a_message_may_be_about_no_file() -> None:
    """A message is about the job, or about one of its files."""
    about_job = JobMessage.model_validate({"id": 1, "message": "m", "type": "INFO", "file_id": None})
    about_file = JobMessage.model_validate({"id": 2, "message": "m", "type": "INFO", "file_id": 7})

    assert (about_job.file_id, about_file.file_id) == (None, "7")
