"""A gateway in the test's own process, and somebody who calls it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from worker.gateway.server import open_gateway
from worker.settings import Settings

TOKEN = "a-token-of-the-gateway"
PLATFORM = "https://go.example.org"
OTHER_PLATFORM = "https://other.example.org"
KEY = "a-key-of-the-user"


@dataclass(frozen=True)
class Answered:
    """An answer, read to its end."""

    status: HTTPStatus
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        """What its JSON says."""
        return json.loads(self.text)


class Caller:
    """Calls a gateway, with its token unless told otherwise."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self.url = url

    async def __call__(
        self, method: str, path: str, *, token: str | None = f"Bearer {TOKEN}", **options: Any
    ) -> Answered:
        """Send a request and give the answer."""
        headers = {**options.pop("headers", {}), **({"Authorization": token} if token is not None else {})}
        async with self._http.request(
            method, URL(self.url + path, encoded=True), headers=headers, **options
        ) as answer:
            text = await answer.text()
            return Answered(HTTPStatus(answer.status), dict(answer.headers), text)

    async def hand_in(self, payload: Any, **options: Any) -> Answered:
        """Send a payload."""
        return await self("POST", "/v1/jobs", json=payload, **options)


def gateway_settings(broker_url: str, **gateway: Any) -> Settings:
    """Make the settings of a gateway on a free port, for two platforms."""
    settings: Any = {
        "broker": {"url": broker_url},
        "api": {"allowed_hosts": ["go.example.org", "other.example.org"]},
        "gateway": {"port": 0, "token": TOKEN, **gateway},
    }
    return Settings(**settings)


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Caller]:
    """Serve while the block runs."""
    async with open_gateway(settings) as url, aiohttp.ClientSession() as http:
        yield Caller(http, url)


def payload_of(job_id: str, *, platform: str = PLATFORM, **files: Any) -> dict[str, Any]:
    """Make a payload."""
    return {
        "api": {"url": platform, "key_user": KEY, "key_root": "a-key-of-the-root"},
        "function_data": {
            "container": {"id": "1"},
            "files": {"ids": ["7"], "paths": [], **files},
            "job": {"id": job_id},
        },
    }
