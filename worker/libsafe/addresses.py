"""Web addresses: the platform's own, and the list of hosts that may be given a key.

Both go through `yarl`, which aiohttp itself uses to connect: what was checked is what is connected to.
"""

from collections.abc import Collection

from yarl import URL

from worker.libsafe.errors import HostNotAllowedError

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
        HostNotAllowedError: The host is not on the list, or the address is no http or https address.
    """
    try:
        address = _parsed(url)
    except ValueError as fault:
        raise HostNotAllowedError(f"No key is sent to an address that {fault}; correct api.url.") from None
    host = str(address.host_subcomponent)
    names = {f"{host}:{address.port}"}
    if address.port == _DEFAULT_PORTS[address.scheme]:
        names.add(host)
    if names.isdisjoint(allowed.lower() for allowed in allowed_hosts):
        raise HostNotAllowedError(
            f"No key is sent to {host}:{address.port}, which is not on the list of allowed hosts; "
            "add it there if it is your platform."
        )


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
    if address.user is not None or address.password is not None:
        raise ValueError("must not carry a user or a password")
    if "?" in url or "#" in url:
        raise ValueError("must not carry a query or a fragment")
    return address
