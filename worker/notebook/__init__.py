"""A function of the platform as a notebook or a program has it: see docs/notebooks.md.

    from worker.notebook import JobMessage, Request, S3, hash_files

    with Request(None, payload) as request:
        table = await hash_files(request, ["sha256", "blake3"])

Which verb of the platform's own library is which one here: the same name, also at the same place of `com`.
Its names are near to one another:

- `File`: what the platform has of a file, by its id; `File.get` gives a `worker.libsafe.models.FileRecord`.
- `S3File`, which is `S3.File`: a file's bytes, as a stream.
- `request.Files`: the records of all files of a job.
- `Storage`, as `request.Storage`: where the files of a request are. `worker.libsafe.models.Storage` is the
  platform's record of one bucket.
"""

from worker.hashing.registry import register_algorithm
from worker.notebook import com
from worker.notebook.api import Container, File, Job, JobMessage, Util
from worker.notebook.connections import configure
from worker.notebook.driver import Driver
from worker.notebook.errors import NotebookError, UnreadableFileError
from worker.notebook.filesystem import S3, S3File, Storage
from worker.notebook.local_platform import start_local_platform
from worker.notebook.pipeline import hash_files
from worker.notebook.request import Request

Nuclio = com.Nuclio

__all__ = [
    "S3",
    "Container",
    "Driver",
    "File",
    "Job",
    "JobMessage",
    "NotebookError",
    "Nuclio",
    "Request",
    "S3File",
    "Storage",
    "UnreadableFileError",
    "Util",
    "com",
    "configure",
    "hash_files",
    "register_algorithm",
    "start_local_platform",
]
