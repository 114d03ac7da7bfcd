"""The same names at the places where the platform's own library has them: `com.Nuclio.Request.Request`."""

from types import SimpleNamespace

from worker.notebook import api, filesystem
from worker.notebook.driver import Driver
from worker.notebook.request import Request

Nuclio = SimpleNamespace(Request=SimpleNamespace(Request=Request))
Api = SimpleNamespace(
    Driver=Driver, Container=api.Container, File=api.File, Job=api.Job, JobMessage=api.JobMessage
)
Filesystem = SimpleNamespace(S3=filesystem.S3)
