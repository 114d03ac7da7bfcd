"""The direct way to a storage: GETs signed by botocore, their bodies from the socket into the slot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import get_environ_proxies, percent_encode, percent_encode_sequence

from worker.storage.connection_pool import ConnectionPool
from worker.storage.errors import WrongAnswerError
from worker.storage.http_connection import Origin
from worker.storage.http_head import Head, UnsupportedAnswerError
from worker.storage.library_errors import refusal
from worker.storage.ranges import RangeAnswer

if TYPE_CHECKING:
    from worker.storage.access import StoreAccess, StoreLimits
    from worker.storage.filling import Filling
    from worker.storage.library_way import SentRequest
    from worker.storage.object_version import ObjectAddress

_PORTS = {"http": 80, "https": 443}
# The one kind of signature that this way can make.
_SIGV4 = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([^/,]+)/s3/aws4_request,.*")
_ERROR_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9_.-]{1,100})\s*</Code>")
# What S3 says to a signature for the wrong region, where it is no redirect.
_WRONG_REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
# The reason stands in the first bytes; a body may be of any length.
_MOST_ERROR_BYTES = 64 * 1024

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where a bucket's objects are asked for: botocore's decision, whose GET before us showed it.

    Args:
        origin: Where to connect.
        host: The Host header.
        base_url: What stands before an encoded key.
        base_path: The same without scheme and host.
        region: Which the signature names.
    """

    origin: Origin
    host: str
    base_url: str
    base_path: str
    region: str


class DirectWay:
    """Reads ranges over connections of its own, for the buckets that it has learned.

    Where it meets something that it does not know, such as a proxy, it leaves the store to aiobotocore for
    good and says so once.

    Args:
        access: As whom to sign, and which certificates to trust.
        limits: Connections and timeouts.
    """

    def __init__(self, access: StoreAccess, limits: StoreLimits) -> None:
        token = access.session_token
        self._credentials = Credentials(
            access.access_key,
            access.secret_key.get_secret_value(),
            token.get_secret_value() if token else None,
        )
        self._pool = ConnectionPool(
            most_idle=limits.max_connections,
            connect_timeout_seconds=limits.connect_timeout_seconds,
            verify_tls=access.verify_tls,
        )
        self._destinations: dict[str, _Destination] = {}
        self._is_given_up = False

    def __repr__(self) -> str:
        state = "given up" if self._is_given_up else f"{len(self._destinations)} buckets known"
        return f"<DirectWay {state}, {self._pool!r}>"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    def learn(self, address: ObjectAddress, sent: SentRequest) -> None:
        """Learn from a GET of aiobotocore that was answered where a bucket is; a known one stays as it is."""
        if self._is_given_up or address.bucket in self._destinations:
            return
        if get_environ_proxies(sent.url):
            self._give_up("a proxy stands between")
            return
        destination = _destination_of(address, sent)
        if destination is None:
            self._give_up("a kind of request that is not known here")
            return
        self._destinations[address.bucket] = destination

    async def get(self, filling: Filling) -> bool:
        """Ask for the rest once and receive what comes; without an exception the body is at its end.

        Returns:
            False: this way does not lead to the bucket, now or at all; no byte has come.

        Raises:
            StorageError: The storage refuses, or its answer is a wrong one.
            AddressNotAllowedError: The bucket's host leads where no key is sent.
            OSError: No connection, or it broke.
            MalformedAnswerError: What came is no answer.
        """
        destination = self._destinations.get(filling.address.bucket)
        if self._is_given_up or destination is None:
            return False
        receiver = _Receiver(filling)
        try:
            await self._pool.get(destination.origin, self._request(destination, filling), receiver)
        except UnsupportedAnswerError as error:
            self._give_up(str(error))
            return False
        if receiver.refusal is None:
            return True
        if _names_another_region(receiver.refusal, receiver.error_code):
            self._destinations.pop(filling.address.bucket, None)
            return False
        raise refusal(filling.where, receiver.refusal.status, receiver.error_code, receiver.refusal.headers)

    def _request(self, destination: _Destination, filling: Filling) -> bytes:
        """Write a request, signed; the body that there is not needs no hash but that of nothing."""
        tail = _key_and_query(filling.address)
        request = AWSRequest(
            method="GET",
            url=destination.base_url + tail,
            headers={"Host": destination.host, "Range": filling.range_header},
        )
        if filling.version is not None:
            request.headers["If-Match"] = filling.version.etag
        S3SigV4Auth(self._credentials, "s3", destination.region).add_auth(request)
        lines = [
            f"GET {destination.base_path}{tail} HTTP/1.1",
            *(f"{name}: {value}" for name, value in request.headers.items()),
            "Accept-Encoding: identity",
            "User-Agent: libsafe-hash-worker",
        ]
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or "\0" in head:
            raise WrongAnswerError(filling.where, "an ETag that no header can carry")
        return f"{head}\r\n\r\n".encode()

    def _give_up(self, reason: str) -> None:
        if not self._is_given_up:
            _log.warning("Objects are read through aiobotocore, which costs more CPU", reason=reason)
        self._is_given_up = True


class _Receiver:
    """Takes one answer: a body into the slot, the text of a refusal into memory of its own."""

    def __init__(self, filling: Filling) -> None:
        self.refusal: Head | None = None
        self._filling = filling
        self._error = bytearray()
        self._error_bytes = 0

    @property
    def error_code(self) -> str:
        """S3's code in the text of a refusal, or nothing."""
        match = _ERROR_CODE.search(self._error, 0, self._error_bytes)
        return match[1].decode() if match else ""

    def accept(self, head: Head) -> None:
        if head.status >= HTTPStatus.MULTIPLE_CHOICES:
            self.refusal = head
            self._error = bytearray(_MOST_ERROR_BYTES)
            return
        if head.length_bytes is None and not head.is_chunked:
            raise UnsupportedAnswerError("a body whose end nothing tells")
        self._filling.accept(_answer_of(head))

    def room(self) -> memoryview:
        if self.refusal is None:
            return self._filling.rest
        return memoryview(self._error)[self._error_bytes :]

    def advance(self, length: int) -> None:
        if self.refusal is None:
            self._filling.advance(length)
        else:
            self._error_bytes += length

    def overflow(self) -> None:
        if self.refusal is None:
            raise WrongAnswerError(self._filling.where, "more bytes than asked for")


def _destination_of(address: ObjectAddress, sent: SentRequest) -> _Destination | None:
    """Take what is the same for every key from the URL and the signature of one; None if that cannot be."""
    tail = _key_and_query(address)
    signature = _SIGV4.fullmatch(sent.authorization)
    parts = urlsplit(sent.url)
    if signature is None or not sent.url.endswith(f"/{tail}") or parts.hostname is None:
        return None
    is_ipv6 = ":" in parts.hostname
    host = f"[{parts.hostname}]" if is_ipv6 else parts.hostname
    port = parts.port or _PORTS[parts.scheme]
    base_url = sent.url.removesuffix(tail)
    return _Destination(
        origin=Origin(parts.scheme == "https", parts.hostname, port),
        host=host if port == _PORTS[parts.scheme] else f"{host}:{port}",
        base_url=base_url,
        base_path=urlsplit(base_url).path,
        region=signature[1],
    )


def _key_and_query(address: ObjectAddress) -> str:
    """Encode a key and its version id as botocore does."""
    key: str = percent_encode(address.key, safe="/~")
    if address.version_id is None:
        return key
    return f"{key}?{percent_encode_sequence({'versionId': address.version_id})}"


def _names_another_region(head: Head, code: str) -> bool:
    """Tell an answer after which aiobotocore would ask elsewhere, and be right."""
    is_redirect = head.status < HTTPStatus.BAD_REQUEST
    return (is_redirect and "x-amz-bucket-region" in head.headers) or code in _WRONG_REGION_CODES


def _answer_of(head: Head) -> RangeAnswer:
    return RangeAnswer(
        status=head.status,
        etag=head.headers.get("etag"),
        version_id=head.headers.get("x-amz-version-id"),
        content_range=head.headers.get("content-range"),
        length_bytes=head.length_bytes,
        storage_class=head.headers.get("x-amz-storage-class"),
    )
