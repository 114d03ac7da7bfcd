"""The platforms that the settings allow, and how to talk to them."""

import aiohttp

from worker.hashing.registry import added_names
from worker.libsafe.addresses import check_host
from worker.libsafe.breaker import Breaker
from worker.libsafe.client import PlatformClient
from worker.libsafe.errors import JobAddress
from worker.libsafe.outbox import Outbox
from worker.libsafe.reports import ReportPolicy
from worker.libsafe.routes import Routes
from worker.libsafe.sender import ReportSender
from worker.settings import (
    ApiSettings,
    SettingsError,
)


class ConfiguredPlatforms:
    """The platforms that the settings allow."""

    def __init__(self, api: ApiSettings, routes: Routes, http: aiohttp.ClientSession) -> None:
        self._api = api
        self._routes = routes
        self._http = http
        self._breakers: dict[str, Breaker] = {}

    def client(self, address: JobAddress) -> PlatformClient:
        """Give a client; see `Platforms.client`."""
        check_host(address.api_url, self._api.allowed_hosts)
        return PlatformClient(
            address.api_url,
            address.key,
            self._routes,
            self._http,
            breaker=self._breakers.setdefault(address.api_url, Breaker()),
            attempts=self._api.attempts,
            timeout_seconds=self._api.timeout_seconds,
        )

    def sender(self, client: PlatformClient, job_id: str, outbox: Outbox) -> ReportSender:
        """Give a sender; see `Platforms.sender`."""
        return ReportSender(client, job_id, outbox, self.policy())

    def policy(self) -> ReportPolicy:
        """Say how reports are told by now: programs may add algorithms while we run."""
        # Whoever adds an algorithm wants it stored.
        hash_names = {name: name for name in added_names()} | self._api.hash_names
        return ReportPolicy(message_types=self._api.message_types, hash_names=hash_names)


def make_routes(api: ApiSettings) -> Routes:
    """Make the routes from the settings.

    Raises:
        SettingsError: There is no such route, or its template can't be filled.
    """
    try:
        return Routes(**api.routes)
    except TypeError:
        unknown = ", ".join(sorted(api.routes.keys() - Routes.__dataclass_fields__.keys()))
        raise SettingsError(f"Wrong settings: api.routes: there is no route {unknown}.") from None
    except ValueError as error:
        raise SettingsError(f"Wrong settings: api.routes: {error}") from None
