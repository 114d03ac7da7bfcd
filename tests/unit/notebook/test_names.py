"""What can be imported, and where the platform's own library has it."""

from typing import Any

import pytest

from worker import notebook
from worker.notebook import com


def test_all_that_is_offered_is_there() -> None:
    """And nothing else is needed for the names of the platform's document."""
    offered = {name: getattr(notebook, name) for name in notebook.__all__}

    assert {"com", "Util", "Nuclio", "Request", "Driver", "Container", "File", "Job", "JobMessage"} <= set(
        offered
    )
    assert {"S3", "S3File", "Storage"} <= set(offered)


@pytest.mark.parametrize(
    ("place", "same"),
    [
        (com.Nuclio.Request.Request, notebook.Request),
        (com.Api.Driver, notebook.Driver),
        (com.Api.Container, notebook.Container),
        (com.Api.File, notebook.File),
        (com.Api.Job, notebook.Job),
        (com.Api.JobMessage, notebook.JobMessage),
        (com.Filesystem.S3, notebook.S3),
        (com.Filesystem.S3.File, notebook.S3File),
        (com.Filesystem.S3.Storage, notebook.Storage),
    ],
)
def test_a_name_is_the_same_at_its_place_in_com(place: Any, same: Any) -> None:
    """Whoever writes it out gets no other."""
    assert place is same
