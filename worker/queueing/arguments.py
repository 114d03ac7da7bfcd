"""What Flower, events, answers of remote control and log lines show of a task's arguments: never a key."""

from typing import Any

from worker.libsafe.names import JOB_PREFIX
from worker.libsafe.payload import job_id_in

_NOTHING_KNOWN = "no payload"
# An id that somebody else chose.
_LONGEST_ID = 80


def job_id(args: Any) -> str | None:
    """Find the job's id in a task's arguments, a payload or a batch, for those who log what became of it."""
    document = args[0] if isinstance(args, list | tuple) and args else None
    job = document.get("job") if isinstance(document, dict) else None
    if isinstance(job, str) and job.startswith(JOB_PREFIX):
        return job.rpartition("/job/")[2]
    return job_id_in(document)


def about(args: Any) -> dict[str, Any]:
    """Give what each log line of a task says of its arguments: `job_id` and, of a batch, `batch`."""
    told = {"job_id": job_id(args)}
    document = args[0] if told["job_id"] else None
    if isinstance(document, dict) and isinstance(document.get("batch"), int):
        told["batch"] = document["batch"]
    return told


def shown(args: Any) -> str:
    """Word a task's arguments for people: `job 299: 2 files and folders`, `job 299: batch 3`.

    Args:
        args: As in the message; whatever they are, they are worded.
    """
    job = job_id(args)
    if job is None:
        return _NOTHING_KNOWN
    return f"job {job[:_LONGEST_ID]}: {_asked_for(args[0])}"


def _asked_for(document: dict[str, Any]) -> str:
    if isinstance(document.get("job"), str):
        return f"batch {str(document.get('batch'))[:_LONGEST_ID]}"
    data = document.get("function_data")
    files = data.get("files") if isinstance(data, dict) else None
    lists = [files.get(key) for key in ("ids", "paths")] if isinstance(files, dict) else []
    count = sum(len(names) for names in lists if isinstance(names, list))
    if not count:
        return "its container"
    return "1 file or folder" if count == 1 else f"{count} files and folders"
