"""Is everything that a worker needs there and right? One finding for each thing, and no secret in any."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import redis.asyncio
import redis.exceptions

from worker.bootstrap import ConfiguredPlatforms, ConfiguredStores, make_routes, store_access, store_limits
from worker.hashing.algorithms import ALGORITHMS
from worker.hashing.errors import HashingError
from worker.hashing.lanes import LanePool
from worker.jobs.errors import FileNotHashedError
from worker.libsafe.client import open_http
from worker.libsafe.errors import LibsafeError
from worker.libsafe.payload import Payload
from worker.settings import Settings, StorageSettings
from worker.storage.errors import StorageError
from worker.storage.store import ObjectStore

_PATIENCE_SECONDS = 5.0
_SMALLEST_SLOT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing: `part` names it, `detail` is one sentence for people."""

    part: str
    ok: bool
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Give the finding as a JSON object."""
        return asdict(self)


async def check(settings: Settings, payload: Payload | None = None) -> AsyncIterator[Finding]:
    """Look at the broker, the lanes, every storage and every platform that the settings name.

    Args:
        settings: The settings.
        payload: With one, its key and its container's storage are tried as a job would.

    Yields:
        A finding for each thing, as soon as it is known.
    """
    yield await _check_broker(settings.broker.url.get_secret_value())
    yield await _check_lanes()
    if not settings.storages:
        yield Finding("S3", ok=False, detail="The settings hold no credentials: add [storages.default].")
    for storage_id, storage in settings.storages.items():
        yield await _check_storage(settings, storage_id, storage)
    if not settings.api.allowed_hosts:
        yield Finding(
            "API", ok=False, detail="The settings allow no platform; add its host to api.allowed_hosts."
        )
    for host in settings.api.allowed_hosts:
        yield await _check_host(host)
    if payload is not None:
        yield await _check_payload(settings, payload)


async def _check_broker(url: str) -> Finding:
    client = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=_PATIENCE_SECONDS, socket_timeout=_PATIENCE_SECONDS
    )
    place = "{host}:{port}".format_map({"host": "?", "port": "?"} | client.connection_pool.connection_kwargs)
    try:
        async with client:
            await client.ping()
    except redis.exceptions.AuthenticationError:
        return Finding("broker", ok=False, detail=f"{place} refuses the password; correct it in broker.url.")
    except redis.exceptions.ResponseError as error:
        return Finding("broker", ok=False, detail=f"{place} refuses: {error}.")
    except (redis.exceptions.RedisError, OSError):
        return Finding(
            "broker", ok=False, detail=f"{place} does not answer; does it run, is broker.url right?"
        )
    return Finding("broker", ok=True, detail=f"{place} answers.")


async def _check_lanes() -> Finding:
    try:
        async with (
            LanePool(lane_count=1, slot_count=1, slot_bytes=_SMALLEST_SLOT_BYTES) as lanes,
            lanes.open_session(tuple(ALGORITHMS.values()), 0) as session,
        ):
            await session.digests()
    except (HashingError, OSError) as error:
        return Finding("lanes", ok=False, detail=f"A lane can't hash: {error}")
    return Finding("lanes", ok=True, detail=f"A lane starts and knows {len(ALGORITHMS)} algorithms.")


async def _check_storage(settings: Settings, storage_id: str, storage: StorageSettings) -> Finding:
    part = f"S3 {storage_id}"
    where = str(storage.endpoint_url or "AWS")
    if storage.bucket is None:
        detail = f"{where} was not asked: name a bucket to try in storages.{storage_id}.bucket."
        return Finding(part, ok=True, detail=detail)
    limits = store_limits(settings.reading.model_copy(update={"attempts": 1}), slots=1)
    try:
        async with ObjectStore(store_access(storage, None), limits) as store:
            await store.reach(storage.bucket)
    except StorageError as error:
        return Finding(part, ok=False, detail=f"{where}: {error}")
    return Finding(part, ok=True, detail=f"{where} lets these credentials into {storage.bucket}.")


async def _check_host(host: str) -> Finding:
    """Ask for the API without a key: any answer shows that the platform is there."""
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    reasons = []
    async with aiohttp.ClientSession(timeout=timeout) as http:
        for scheme in ("https", "http"):
            try:
                async with http.get(f"{scheme}://{host}/api/", allow_redirects=False) as answer:
                    detail = f"It answers by {scheme} ({answer.status})."
                    return Finding(f"API {host}", ok=True, detail=detail)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                reasons.append(f"{scheme}: {type(error).__name__}")
    detail = f"It does not answer ({', '.join(reasons)}); is the name right, and open from here?"
    return Finding(f"API {host}", ok=False, detail=detail)


async def _check_payload(settings: Settings, payload: Payload) -> Finding:
    """Go a job's way without changing anything: job, container, storage, bucket."""
    part = f"job {payload.address.job_id}"
    routes = make_routes(settings.api)
    once = settings.api.model_copy(update={"attempts": 1})
    try:
        async with (
            asyncio.timeout(4 * _PATIENCE_SECONDS),
            open_http(max_connections=1) as http,
            ConfiguredStores(settings) as stores,
        ):
            client = ConfiguredPlatforms(once, routes, http).client(payload.address)
            job = await client.job(payload.address.job_id)
            container_id = payload.function_data.container.id
            if container_id is None:
                return Finding(part, ok=True, detail=f"Its status is {job.status}; it names no container.")
            container = await client.container(container_id)
            storage = await client.storage(container.storage_id)
            await (await stores.store(storage)).reach(storage.bucket)
    except (LibsafeError, StorageError, FileNotHashedError) as error:
        return Finding(part, ok=False, detail=str(error))
    except TimeoutError:
        return Finding(part, ok=False, detail="The platform and its storage took too long to answer.")
    detail = f"Its status is {job.status}, and bucket {storage.bucket} of storage {storage.id} is open."
    return Finding(part, ok=True, detail=detail)
