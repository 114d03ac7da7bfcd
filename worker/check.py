"""Is everything that a worker needs there and right? One finding for each thing, and no secret in any."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import aiohttp
import redis.asyncio
import redis.exceptions

from worker.bootstrap.platforms import ConfiguredPlatforms, make_routes
from worker.bootstrap.runner import check_algorithms
from worker.bootstrap.stores import ConfiguredStores, store_access, store_limits
from worker.hashing.algorithms import ALGORITHMS, Algorithm
from worker.hashing.errors import BadAlgorithmError, HashingError
from worker.hashing.lanes import LanePool
from worker.hashing.registry import BUILT_IN, Listed, list_algorithms, resolve
from worker.jobs.errors import FileNotHashedError
from worker.libsafe.client import open_http
from worker.libsafe.errors import LibsafeError
from worker.libsafe.payload import Payload
from worker.queueing.broker import PasswordRefusedError, broker_place
from worker.settings import HashingSettings, Settings, SettingsError, StorageSettings
from worker.storage.errors import StorageError
from worker.storage.store import ObjectStore

_PATIENCE_SECONDS = 5.0
_SMALLEST_SLOT_BYTES = 64 * 1024
_MiB = 1024 * 1024
# A container's own, by the second version of control groups and by the first.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# What OpenSSL says, by its version, of an answer that is no TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing.

    Attributes:
        part: Its name.
        state: `unknown` if it could not be asked, or not as far as a job would go.
        detail: One sentence for people.
    """

    part: str
    state: Literal["ok", "wrong", "unknown"]
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Give the finding as a JSON object."""
        return asdict(self)


def load_findings(error: SettingsError) -> list[Finding]:
    """Tell each fault for which the settings can't be read; nothing else can be looked at then."""
    return [Finding("settings", "wrong", f"{fault.rstrip('.')}.") for fault in error.faults]


async def check(settings: Settings, payload: Payload | None = None) -> AsyncIterator[Finding]:
    """Look at the settings, the broker, the lanes, every storage and every platform that the settings name.

    Args:
        settings: The settings.
        payload: With one, its key and its container's storage are tried as a job would.

    Yields:
        A finding for each thing, as soon as it is known.
    """
    for finding in _check_settings(settings):
        yield finding
    yield _check_slots(settings.hashing)
    yield await _check_broker(settings.broker.address)
    yield await _check_lanes()
    for listed in list_algorithms():
        if listed.origin != BUILT_IN:
            yield await _check_algorithm(listed)
    if not settings.storages:
        yield Finding("S3", "wrong", "The settings hold no credentials: add [storages.default].")
    for storage_id, storage in settings.storages.items():
        yield await _check_storage(settings, storage_id, storage)
    if not settings.api.allowed_hosts:
        yield Finding("API", "wrong", "The settings allow no platform; add its host to api.allowed_hosts.")
    for host in settings.api.allowed_hosts:
        yield await _check_host(host)
    if payload is not None:
        yield await _check_payload(settings, payload)


def _check_settings(settings: Settings) -> list[Finding]:
    """Look at what the settings alone can't judge; the rest was checked when they were read."""
    found = []
    for look in (lambda: make_routes(settings.api), lambda: check_algorithms(settings.hashing)):
        try:
            look()
        except SettingsError as error:
            found += load_findings(error)
    return found or [Finding("settings", "ok", "Routes and default algorithms can be used.")]


def _check_slots(hashing: HashingSettings) -> Finding:
    """Compare the slots with the memory that there is; lanes and lists need some beside them."""
    slots_bytes = hashing.slots * hashing.slot_bytes
    memory_bytes = min(_memory_bytes())
    sizes = f"{slots_bytes // _MiB:,} MiB of {memory_bytes // _MiB:,}"
    if slots_bytes > memory_bytes:
        return Finding(
            "slots", "wrong", f"They would take {sizes}; lower hashing.slots or hashing.slot_bytes."
        )
    return Finding("slots", "ok", f"They take {sizes}.")


def _memory_bytes() -> Iterator[int]:
    """Give the machine's memory, and the limit of a container that we are in."""
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in map(Path, _MEMORY_LIMITS):
        limit = path.read_text("ascii").strip() if path.is_file() else "max"
        if limit.isdecimal():
            yield int(limit)


# The first with BLMOVE, by which workers wait for messages.
_OLDEST_BROKER = (6, 2)


async def _check_broker(url: str) -> Finding:
    place = broker_place(url)
    client = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=_PATIENCE_SECONDS, socket_timeout=_PATIENCE_SECONDS
    )
    try:
        async with client:
            server = await client.info("server")
    except redis.exceptions.AuthenticationError:
        return Finding("broker", "wrong", str(PasswordRefusedError(url)))
    except redis.exceptions.ResponseError as error:
        return Finding("broker", "wrong", f"{place} refuses: {error}.")
    except (redis.exceptions.RedisError, OSError) as error:
        return Finding("broker", "wrong", _why_no_broker(url, error))
    version = str(server["redis_version"])  # Valkey, too, tells which Redis it is like
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_BROKER:
        return Finding("broker", "wrong", f"{place} is like Redis {version}; Redis or Valkey 6.2 is needed.")
    return Finding("broker", "ok", f"{place} answers.")


def _why_no_broker(url: str, error: Exception) -> str:
    place, within = broker_place(url), _within(error)
    if isinstance(within, ssl.SSLError) and within.reason in _NO_TLS:
        return f"{place} speaks no TLS; correct broker.url, where rediss:// asks for it."
    if isinstance(within, ssl.SSLError):
        return (
            f"The TLS of {place} can't be used: {_reason(error)}; correct it, or the options of broker.url."
        )
    if isinstance(within, FileNotFoundError | PermissionError):
        return f"A file that broker.url names can't be read: {within.strerror}."
    # One that speaks no TLS mostly waits for more, and says nothing.
    tls = "does it speak TLS, " if url.startswith("rediss:") else ""
    return f"{place} does not answer: {_reason(error)}; does it run, {tls}is broker.url right?"


async def _check_lanes() -> Finding:
    try:
        await _hash_nothing(ALGORITHMS.values())
    except (HashingError, OSError) as error:
        return Finding("lanes", "wrong", f"A lane can't hash: {error}")
    return Finding("lanes", "ok", f"A lane starts and knows {len(ALGORITHMS)} algorithms.")


async def _check_algorithm(listed: Listed) -> Finding:
    part = f"algorithm {listed.name}"
    if isinstance(listed.found, BadAlgorithmError):
        return Finding(part, "wrong", f"{listed.origin}: {listed.found}")
    try:
        await _hash_nothing([listed.found])
    except (HashingError, OSError) as error:
        return Finding(part, "wrong", f"{listed.origin}: {error}")
    return Finding(part, "ok", f"{listed.origin} offers it, and a lane can hash with it.")


async def _hash_nothing(algorithms: Iterable[Algorithm]) -> None:
    async with (
        LanePool(lane_count=1, slot_count=1, slot_bytes=_SMALLEST_SLOT_BYTES) as lanes,
        lanes.open_session(tuple(algorithms), 0) as session,
    ):
        await session.digests()


async def _check_storage(settings: Settings, storage_id: str, storage: StorageSettings) -> Finding:
    part = f"S3 {storage_id}"
    where = str(storage.endpoint_url or "AWS")
    if storage.bucket is None:
        return await _check_endpoint(part, storage)
    # A storage that asks to slow down would be waited for, and whoever asks here waits too.
    limits = replace(store_limits(settings.reading, slots=1), attempts=1, patience_seconds=0)
    try:
        async with ObjectStore(store_access(storage, None), limits) as store:
            await store.reach(storage.bucket)
    except (StorageError, ValueError, OSError) as error:
        return Finding(part, "wrong", f"{where}: {error}")
    return Finding(part, "ok", f"{where} lets these credentials into {storage.bucket}.")


async def _check_endpoint(part: str, storage: StorageSettings) -> Finding:
    """Ask without credentials: any answer shows that something is there, and none that it lets us in."""
    advice = "name a bucket that the credentials may be tried on in its settings."
    if storage.endpoint_url is None:
        return Finding(part, "unknown", f"AWS was not asked; {advice}")
    where = str(storage.endpoint_url)
    try:
        status = await _status_of(where, storage.verify_tls)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Finding(part, "wrong", f"{where} does not answer: {_reason(error)}.")
    return Finding(
        part, "unknown", f"{where} answers ({status}), but the credentials were not tried; {advice}"
    )


async def _check_host(host: str) -> Finding:
    """Ask for the API without a key: any answer shows that the platform is there."""
    part = f"API {host}"
    reasons = []
    for scheme in ("https", "http"):
        try:
            status = await _status_of(f"{scheme}://{host}/api/")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if _speaks_tls(error):
                return Finding(part, "wrong", f"Its https can't be used: {_reason(error)}.")
            reasons.append(f"{scheme}: {_reason(error)}")
        else:
            return Finding(part, "ok", f"It answers by {scheme} ({status}).")
    detail = f"It does not answer ({', '.join(reasons)}); is the name right, and open from here?"
    return Finding(part, "wrong", detail)


async def _status_of(url: str, verify_tls: bool | Path = True) -> int:  # noqa: FBT001, FBT002 - as in the settings
    tls = ssl.create_default_context(cafile=verify_tls) if isinstance(verify_tls, Path) else verify_tls
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(url, ssl=tls, allow_redirects=False) as answer,
    ):
        return answer.status


def _speaks_tls(error: Exception) -> bool:
    """Tell a server whose TLS we can't use, as with a wrong certificate, from one that has none."""
    within = _within(error)
    return isinstance(within, ssl.SSLError) and within.reason not in _NO_TLS


def _reason(error: Exception) -> str:
    within = _within(error)
    if isinstance(within, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted, {within.verify_message.rstrip('.')}"
    named = (getattr(each, name, None) for name in ("reason", "strerror") for each in (within, error))
    return next(filter(None, named), None) or type(error).__name__


def _within(error: Exception) -> BaseException | None:
    """Give what a library's error came of; redis-py does not name it as the cause."""
    return error.__cause__ or error.__context__


async def _check_payload(settings: Settings, payload: Payload) -> Finding:
    """Go a job's way without changing anything: algorithms, job, container, storage, bucket."""
    part = f"job {payload.address.job_id}"
    once = settings.api.model_copy(update={"attempts": 1})
    try:
        resolve(payload.algorithms or settings.hashing.algorithms)
        async with (
            asyncio.timeout(4 * _PATIENCE_SECONDS),
            open_http(max_connections=1) as http,
            ConfiguredStores(settings) as stores,
        ):
            client = ConfiguredPlatforms(once, make_routes(settings.api), http).client(payload.address)
            job = await client.job(payload.address.job_id)
            container_id = payload.function_data.container.id
            if container_id is None:
                detail = f"Its status is {job.status}; no storage was asked, because it names no container."
                return Finding(part, "unknown", detail)
            container = await client.container(container_id)
            storage = await client.storage(container.storage_id)
            await (await stores.store(storage)).reach(storage.bucket)
    except (SettingsError, HashingError, LibsafeError, StorageError, FileNotHashedError) as error:
        return Finding(part, "wrong", str(error))
    except TimeoutError:
        return Finding(part, "wrong", "The platform and its storage took too long to answer.")
    detail = f"Its status is {job.status}, and bucket {storage.bucket} of storage {storage.id} is open."
    return Finding(part, "ok", detail)
