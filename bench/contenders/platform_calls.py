"""The calls of the vendor's library to the jobs API, one after the other.

How that library keeps its connections is not published; one session that keeps its connection alive is the
fastest it can do.
"""

from types import TracebackType
from typing import Any, Self

import requests

_TIMEOUT_SECONDS = 30


class PlatformCalls:
    """One job's calls; a context manager."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self._base = payload["api"]["url"] + "/api"
        self._job = f"/job/{payload['function_data']['job']['id']}"
        self._http = requests.Session()
        self._http.headers["Authorization"] = f"Bearer {payload['api']['key_user']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def set_status(self, status: str) -> None:
        """Set the job's status."""
        self._call("PUT", self._job, {"status": status})

    def log(self, text: str, file_id: str | None = None) -> None:
        """Add a message to the job."""
        about = {} if file_id is None else {"file_id": file_id}
        self._call("POST", f"{self._job}/message", {"message": text, "type": "INFO", **about})

    def file(self, file_id: str) -> Any:
        """Fetch a file's record."""
        return self._call("GET", f"/file/{file_id}")

    def metadata(self, file_id: str) -> Any:
        """Fetch a file's metadata."""
        return self._call("GET", f"/file/{file_id}/metadata")

    def set_hash(self, file_id: str, name: str, text: str) -> None:
        """Store a file's hash."""
        self._call("PUT", f"/file/{file_id}/hash", {"algorithm": name, "hash": text})

    def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        answer = self._http.request(method, self._base + path, json=body, timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        return answer.json()["result"]
