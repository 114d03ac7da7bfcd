"""Files that can't be read: told, and never passed over in silence."""

import re
from collections.abc import Callable

import pytest

from worker.notebook import S3, File, Request, UnreadableFileError, configure
from worker.notebook.local_platform import RunningPlatform

Texts = Callable[[str], list[str]]
Status = Callable[[str], str]
NewFile = Callable[..., str]


def test_an_offline_file_is_passed_over_with_a_message(
    platform: RunningPlatform, status: Status, texts: Texts, new_file: NewFile
) -> None:
    """As the service does."""
    file_id = new_file(storage_class_id="9")
    configure(worker={"offline_storage_class_ids": ["9"]})
    try:
        with Request(None, platform.payload(file_ids=[file_id])) as request:
            found = list(request.Files)
    finally:
        configure()

    assert (found, status(request.job_id)) == ([], "COMPLETED")
    (text,) = texts(request.job_id)
    assert text.startswith(f"WARNING: File {file_id} (/new/")
    assert text.endswith("can't be read: its storage class is off-line; move it to an on-line class first.")


def test_a_file_without_an_object_is_an_error_that_names_it(
    platform: RunningPlatform, status: Status, texts: Texts, new_file: NewFile
) -> None:
    """Never None; and who passes it over has it told, once, and the job FAILED."""
    file_id = new_file()
    sentence = rf"File {file_id} \(/new/\d+\) can't be read: There is no object s3://archive/new/"

    request = Request(None, platform.payload(file_ids=[file_id]))
    request.job_init()

    for _ in range(2):
        (file,) = request.Files
        with pytest.raises(UnreadableFileError, match=sentence):
            S3.File.get_stream(request.Storage, file)
    with pytest.warns(UserWarning, match="1 file was not read"):
        request.job_end(is_successful=True)

    assert status(request.job_id) == "FAILED"
    told, end = texts(request.job_id)
    assert re.match("ERROR: " + sentence, told)
    assert end == "ERROR: The job ends FAILED: 1 file was not read."


def test_a_deleted_file_has_no_stream(platform: RunningPlatform, new_file: NewFile) -> None:
    """Also one that was fetched by its id."""
    file_id = new_file(deleted=True)
    request = Request(None, platform.payload(file_ids=platform.file_ids[:1]))

    with pytest.raises(UnreadableFileError, match=r"it is deleted; restore it on the platform first\."):
        S3.File.get_stream(request.Storage, File.get(file_id))
