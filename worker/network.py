"""Which addresses a host may lead to, looked at when connecting.

What a name was found to mean before would not do: its owner may answer one thing to whoever checks and
another to whoever connects (DNS rebinding). So the addresses that are checked are the ones connected to.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp import ThreadedResolver
from aiohttp.abc import ResolveResult

# Where clouds tell their machines secrets, beside 169.254.169.254 and its like, which are link-local.
_METADATA_SERVICES = frozenset(
    map(
        ip_address,
        (
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure
        ),
    )
)
# Leads to the IPv4 address in its last 32 bits (RFC 6052, section 2.1).
_NAT64 = IPv6Network("64:ff9b::/96")


class AddressNotAllowedError(Exception):
    """A host is, or leads to, an address that nothing is sent to.

    Not an OSError: libraries take those for a network that is down, and try again.
    """

    def __init__(self, host: str, address: str, kind: str) -> None:
        super().__init__(host, address, kind)
        self.host = host
        self.address = address
        self.kind = kind

    def __str__(self) -> str:
        if self.host == self.address:
            return f"{self.host} is {self.kind}"
        return f"{self.host} leads to {self.address}, {self.kind}"


def check_addresses(host: str, addresses: Iterable[str]) -> None:
    """Make sure that a connection may be made to each of the addresses that a host leads to.

    Networks of one's own (10/8, 172.16/12, 192.168/16, fc00::/7) are fine: archives live there. Loopback is
    for `localhost` and names under it (RFC 6761, section 6.3), and for an address written out, which somebody
    allowed by this very address. Link-local addresses and metadata services are for nobody.

    Args:
        host: As it was asked for.
        addresses: As the name service gave them; an address written out leads to itself.

    Raises:
        AddressNotAllowedError: One of them is not allowed.
    """
    is_literal = is_ip_address(host)
    is_local_name = f".{host.rstrip('.').lower()}".endswith(".localhost")
    for text in addresses:
        address = _inner(ip_address(text))
        kind = _kind_for_nobody(address)
        if kind is None and not is_literal:
            kind = _kind_for_no_name(address, is_local_name=is_local_name)
        if kind is not None:
            raise AddressNotAllowedError(host, text, kind)


def check_literal(host: str) -> None:
    """Make sure that a connection may be made to a host that is an address; say nothing about a name.

    For where an address written out never passes by a resolver, as in aiohttp.

    Raises:
        AddressNotAllowedError: It is not allowed.
    """
    if is_ip_address(host):
        check_addresses(host, [host])


def is_ip_address(host: str) -> bool:
    """Tell an address, without brackets, from a name; forms like 127.1 or 0x7f.1 are none here."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class CheckingResolver(ThreadedResolver):
    """The system's name service for aiohttp; what it gives passes `check_addresses`."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Find a name's addresses.

        Raises:
            AddressNotAllowedError: One of them is not allowed.
            OSError: There are none.
        """
        found = await super().resolve(host, port, family)
        check_addresses(host, (one["host"] for one in found))
        return found


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Give the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


def _kind_for_nobody(address: IPv4Address | IPv6Address) -> str | None:
    if address.is_link_local:
        return "a link-local address"
    if address in _METADATA_SERVICES:
        return "a cloud's metadata service"
    return None


def _kind_for_no_name(address: IPv4Address | IPv6Address, *, is_local_name: bool) -> str | None:
    if address.is_loopback:
        return None if is_local_name else "this machine itself"
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        return "an address of no single machine"
    return None
