"""The jobs API over HTTP: one method a route, records and errors of ours, nothing of aiohttp's.

Every call is tried several times where trying again may help. Repeating is safe: reading changes nothing, and
what writes carries an `Idempotency-Key`, to which the receiver answers as it answered first without doing it
again (draft-ietf-httpapi-idempotency-key-header-07). Where a platform ignores the header, a message that was
repeated shows twice.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import SecretStr, TypeAdapter, ValidationError
from yarl import URL

from worker.libsafe.addresses import PlatformResolver, api_address, check_host
from worker.libsafe.answers import pause_seconds, result_of, retry_after_seconds
from worker.libsafe.breaker import Breaker
from worker.libsafe.errors import (
    LibsafeError,
    NotFoundError,
    PlatformBusyError,
    PlatformUnreachableError,
    TransientLibsafeError,
    WrongAnswerError,
)
from worker.libsafe.models import (
    Container,
    FileHash,
    FileRecord,
    Job,
    JobMessage,
    JobStatus,
    MetadataItem,
    Storage,
)
from worker.libsafe.routes import Routes

__all__ = ["PlatformClient", "check_host", "open_http"]

# From the library's exceptions to ours, the first that fits: (theirs, ours, what happened).
_ERRORS: tuple[tuple[type[Exception], type[LibsafeError], str], ...] = (
    (aiohttp.ClientResponseError, WrongAnswerError, "The answer to {asked} is no HTTP; check api.url"),
    (
        TimeoutError,
        PlatformUnreachableError,
        "The platform did not answer {asked} in time; check that it runs",
    ),
    (aiohttp.ClientPayloadError, PlatformUnreachableError, "The answer to {asked} was cut off; try again"),
    (
        aiohttp.ClientError,
        PlatformUnreachableError,
        "The platform cannot be reached for {asked}; check that it runs",
    ),
    (OSError, PlatformUnreachableError, "The platform cannot be reached for {asked}; check the network"),
)
# A page of 1,000 file records takes about 400 kB.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
# Made once: making one costs more than the call whose answer it reads.
_JOB = TypeAdapter(Job)
_MESSAGES = TypeAdapter(tuple[JobMessage, ...])
_FILE = TypeAdapter(FileRecord)
_FILES = TypeAdapter(tuple[FileRecord, ...])
_METADATA = TypeAdapter(tuple[MetadataItem, ...])
_HASHES = TypeAdapter(tuple[FileHash, ...])
_CONTAINER = TypeAdapter(Container)
_STORAGE = TypeAdapter(Storage)
_T = TypeVar("_T")


def open_http(max_connections: int = 64) -> aiohttp.ClientSession:
    """Open the connections that all clients share; to be called in the loop and closed with ``async with``.

    Args:
        max_connections: Connections at once; further calls wait for one, within their total time.
    """
    return aiohttp.ClientSession(
        # Looks at addresses when connecting: what a name meant at the check before may have changed.
        connector=aiohttp.TCPConnector(
            limit=max_connections, keepalive_timeout=30, resolver=PlatformResolver()
        ),
        # Clients with different keys share it: one user's cookie must not go with another's key.
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "User-Agent": "libsafe-hash-worker"},
    )


class PlatformClient:
    """Speak with one platform under one key.

    Args:
        url: The platform's address, `api.url` of the payload. `check_host` is the caller's to call before.
        key: The key, sent as ``Authorization: Bearer`` with every call and nowhere else.
        routes: Where everything is.
        http: Shared and kept alive; its owner closes it. See `open_http`.
        breaker: Shared by all who call this platform; None makes one of the client's own.
        attempts: Calls in all before a `TransientLibsafeError` is raised; 1 never repeats.
        first_pause_seconds: The longest pause after the first attempt; it doubles with each.
        longest_pause_seconds: The longest pause, and the longest Retry-After that is waited for.
        connect_timeout_seconds: For one connection to be made.
        timeout_seconds: For one attempt, from waiting for a connection to the last byte.

    Raises:
        ValueError: The url is none that `worker.libsafe.addresses.api_address` takes.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr,
        routes: Routes,
        http: aiohttp.ClientSession,
        *,
        breaker: Breaker | None = None,
        attempts: int = 5,
        first_pause_seconds: float = 0.5,
        longest_pause_seconds: float = 60.0,
        connect_timeout_seconds: float = 5.0,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._url = api_address(url)
        self._key = key
        self._routes = routes
        self._http = http
        self._breaker = breaker or Breaker()
        self._attempts = attempts
        self._first_pause_seconds = first_pause_seconds
        self._longest_pause_seconds = longest_pause_seconds
        # sock_connect and not connect: the latter also counts the wait for a free connection of the pool.
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=connect_timeout_seconds)

    def __repr__(self) -> str:
        return f"<PlatformClient of {self._url}>"

    async def job(self, job_id: str) -> Job:
        """Fetch a job."""
        return await self._read(_JOB, self._routes.path("job", job_id=job_id))

    async def set_job_status(self, job_id: str, status: JobStatus, idempotency_key: str) -> None:
        """Set a job's status."""
        path = self._routes.path("job", job_id=job_id)
        await self._call("PUT", path, body={"status": status}, idempotency_key=idempotency_key)

    async def post_message(
        self, job_id: str, text: str, message_type: str, file_id: str | None, idempotency_key: str
    ) -> None:
        """Add a message to a job; `file_id` tells the file that it is about, if any."""
        body = {"message": text, "type": message_type}
        if file_id is not None:
            body["file_id"] = file_id
        path = self._routes.path("job_message", job_id=job_id)
        await self._call("POST", path, body=body, idempotency_key=idempotency_key)

    async def messages(self, job_id: str) -> tuple[JobMessage, ...]:
        """Fetch a job's messages in the order in which they were added."""
        return await self._read(_MESSAGES, self._routes.path("job_message", job_id=job_id))

    async def file(self, file_id: str) -> FileRecord:
        """Fetch a file's record."""
        return await self._read(_FILE, self._routes.path("file", file_id=file_id))

    async def file_by_path(self, container_id: str, path: str) -> FileRecord:
        """Fetch the record of the file at a path of a container, with or without the leading slash."""
        route = self._routes.path(
            "container_file_by_path", container_id=container_id, path=path.removeprefix("/")
        )
        return await self._read(_FILE, route)

    async def container_pages(
        self, container_id: str, *, after: str | None = None, page_files: int = 1000
    ) -> AsyncIterator[tuple[FileRecord, ...]]:
        """Go through a container's files in the order of their ids, folders and deleted ones too.

        The pages follow one another by the last id seen, so files that come and go meanwhile neither hide
        others nor show them twice.

        Args:
            container_id: The container.
            after: Begin behind this id; None begins at the first.
            page_files: Files a page.

        Yields:
            Pages with a file at least. A page of fewer files than were asked for need not be the last: the
            platform may give fewer at a time.
        """
        route = self._routes.path("container_files", container_id=container_id)
        while True:
            query = {"limit": str(page_files)} | ({} if after is None else {"after": after})
            page = await self._read(_FILES, route, query=query)
            if not page:
                return
            if page[-1].id == after:
                if len(page) < page_files:
                    return  # it knows no cursors, and has given all it has
                raise WrongAnswerError(f"The list of the files of container {container_id} does not move on.")
            yield page
            after = page[-1].id

    async def metadata(self, file_id: str) -> tuple[MetadataItem, ...] | None:
        """Fetch a file's metadata; None when it has none, which the platform may also say by a 404."""
        try:
            items = await self._read(_METADATA, self._routes.path("file_metadata", file_id=file_id))
        except NotFoundError:
            return None
        return items or None

    async def hashes(self, file_id: str) -> tuple[FileHash, ...]:
        """Fetch the hashes that the platform keeps of a file."""
        return await self._read(_HASHES, self._routes.path("file_hash", file_id=file_id))

    async def set_hash(self, file_id: str, algorithm: str, hex_digest: str, idempotency_key: str) -> None:
        """Store a file's hash; `algorithm` is the platform's own name, like ``md5``."""
        path = self._routes.path("file_hash", file_id=file_id)
        body = {"algorithm": algorithm, "hash": hex_digest}
        await self._call("PUT", path, body=body, idempotency_key=idempotency_key)

    async def container(self, container_id: str) -> Container:
        """Fetch a container."""
        return await self._read(_CONTAINER, self._routes.path("container", container_id=container_id))

    async def storage(self, storage_id: str) -> Storage:
        """Fetch a storage."""
        return await self._read(_STORAGE, self._routes.path("storage", storage_id=storage_id))

    async def _read(
        self, adapter: TypeAdapter[_T], path: str, *, query: Mapping[str, str] | None = None
    ) -> _T:
        result = await self._call("GET", path, query=query)
        try:
            return adapter.validate_python(result)
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, detail["loc"])) or "result" for detail in error.errors())
            raise WrongAnswerError(
                f"The answer to GET {self._url}{path} has missing or wrong fields: {wrong}; check the routes."
            ) from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> object:
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._breaker.admit()
                return await self._exchange(method, path, body, query, idempotency_key)
            except TransientLibsafeError as error:
                asked_for = error.retry_after_seconds if isinstance(error, PlatformBusyError) else None
                pause = pause_seconds(
                    attempt,
                    asked_for_seconds=asked_for,
                    first_seconds=self._first_pause_seconds,
                    longest_seconds=self._longest_pause_seconds,
                    share=random.random(),  # noqa: S311 - jitter, no secret
                )
                if attempt >= self._attempts or pause is None:
                    if self._breaker.is_open and isinstance(error, PlatformBusyError):
                        # Not this call alone: whatever it is asked, the platform can't.
                        raise PlatformUnreachableError(str(error)) from error
                    raise
            await asyncio.sleep(pause)

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        idempotency_key: str | None,
    ) -> object:
        try:
            result = await self._ask(method, path, body, query, idempotency_key)
        except TransientLibsafeError:
            self._breaker.failed()
            raise
        except LibsafeError:
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return result

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        idempotency_key: str | None,
    ) -> object:
        asked = f"{method} {self._url}{path}"
        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        with _our_errors(asked):
            async with self._http.request(
                method,
                URL(self._url + path, encoded=True),
                params=query,
                json=body,
                headers=headers,
                timeout=self._timeout,
                # A redirect would carry the key to an address that nobody allowed.
                allow_redirects=False,
            ) as response:
                content = await _whole_body(response, asked)
        return result_of(
            response.status,
            content,
            asked=asked,
            secret=self._key.get_secret_value(),
            retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC)),
        )


async def _whole_body(response: aiohttp.ClientResponse, asked: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            raise WrongAnswerError(f"The answer to {asked} is longer than {_MAX_ANSWER_BYTES} bytes.")
    return bytes(body)


@contextmanager
def _our_errors(asked: str) -> Iterator[None]:
    """Apply the table of errors and keep the cause."""
    try:
        yield
    except LibsafeError:
        raise
    except Exception as error:
        for theirs, ours, text in _ERRORS:
            if isinstance(error, theirs):
                _forget_headers(error)
                raise ours(f"{text.format(asked=asked)} ({type(error).__name__}).") from error
        raise


def _forget_headers(error: Exception) -> None:
    """Take the request's headers, the key among them, out of an exception whose repr would show them."""
    if isinstance(error, aiohttp.ClientResponseError):
        error.request_info = error.request_info._replace(headers=CIMultiDictProxy(CIMultiDict()))
        error.args = ()
