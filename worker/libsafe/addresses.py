"""Web addresses: the platform's own, the list of hosts that may be given a key, and where those may lead.

The first two go through `yarl`, which aiohttp itself uses to connect: what was checked is what is
connected to.
"""

import socket
from collections.abc import Collection

from aiohttp.abc import ResolveResult
from yarl import URL

from worker.libsafe.errors import HostNotAllowedError
from worker.network import AddressNotAllowedError, CheckingResolver, check_literal, is_ip_address

_DEFAULT_PORTS = {"http": 80, "https": 443}


def api_address(url: str) -> str:
    """Bring the platform's address into one form: scheme, host, port where it is not the usual one, path.

    A slash at the end and an ``/api`` at the end are taken off, because the routes begin with ``/api``.

    Raises:
        ValueError: Not http or https, no host, credentials, a query, a fragment, blanks, control characters.
    """
    address = _parsed(url)
    port = "" if address.port == _DEFAULT_PORTS[address.scheme] else f":{address.port}"
    path = address.raw_path.rstrip("/").removesuffix("/api").rstrip("/")
    return f"{address.scheme}://{address.host_subcomponent}{port}{path}"


def check_host(url: str, allowed_hosts: Collection[str]) -> None:
    """Make sure that a key may be sent to an address, before it is sent.

    Args:
        url: The address of the platform.
        allowed_hosts: ``host`` (the scheme's usual port) or ``host:port``, each to be met exactly: no
            suffixes, no patterns. An empty list allows nothing.

    Raises:
        HostNotAllowedError: The host is not on the list, or is an address that is for nobody whatever a list
            says, or the address is no http or https address.
    """
    try:
        address = _parsed(url)
    except ValueError as fault:
        raise HostNotAllowedError(f"No key is sent to an address that {fault}; correct api.url.") from None
    try:
        check_literal(str(address.host))
    except AddressNotAllowedError as refused:
        raise HostNotAllowedError(f"No key is sent, {refused}; correct api.url.") from None
    host = str(address.host_subcomponent)
    names = {f"{host}:{address.port}"}
    if address.port == _DEFAULT_PORTS[address.scheme]:
        names.add(host)
    if names.isdisjoint(allowed.lower() for allowed in allowed_hosts):
        raise HostNotAllowedError(
            f"No key is sent to {host}:{address.port}, which is not on the list of allowed hosts; "
            "add it there if it is your platform."
        )


class PlatformResolver(CheckingResolver):
    """The name service for connections to platforms: a name that leads where no key belongs is refused."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Find a name's addresses.

        Raises:
            HostNotAllowedError: It leads where no key is sent.
            OSError: There are none.
        """
        try:
            return await super().resolve(host, port, family)
        except AddressNotAllowedError as refused:
            raise HostNotAllowedError(
                f"No key is sent, {refused}; correct api.url, or what the name service says of {host}."
            ) from None


def _parsed(url: str) -> URL:
    """Parse an address that is fit to be sent a key; the errors read on from "api.url" and never quote it."""
    if any(character <= " " or character == "\x7f" for character in url):
        # Parsers drop these in silence, each in its own way, so that two of them may see two hosts.
        raise ValueError("must not contain blanks or control characters")
    try:
        address = URL(url)
    except ValueError:
        address = URL()
    if address.scheme not in _DEFAULT_PORTS or not address.host:
        raise ValueError("must begin with http:// or https:// and name a host")
    if _is_odd_ip_address(address.host):
        raise ValueError("must write an IP address in its one usual form, like 127.0.0.1 or [::1]")
    if address.user is not None or address.password is not None:
        raise ValueError("must not carry a user or a password")
    if "?" in url or "#" in url:
        raise ValueError("must not carry a query or a fragment")
    return address


def _is_odd_ip_address(host: str) -> bool:
    """Tell forms that some parsers read as an address and others as a name: 127.1, 0x7f.1, 2130706433.

    A host whose last label is a number can be no name
    (https://url.spec.whatwg.org/#ends-in-a-number-checker). A zone means something to this machine alone.
    """
    if is_ip_address(host):
        return "%" in host
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdecimal() or last.startswith("0x")
