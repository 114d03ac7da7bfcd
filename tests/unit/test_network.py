from __future__ import annotations

import socket

import pytest

from tests.support.name_service import NameService
from worker.network import (
    AddressNotAllowedError,
    CheckingResolver,
    check_addresses,
    check_literal,
    is_ip_address,
)

FOR_NOBODY = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]
FOR_NO_NAME = [
    "0.0.0.0",  # noqa: S104 - nothing listens there
    "::",
    "224.0.0.1",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    "::ffff:255.255.255.255",
    "64:ff9b::e000:1",
]
LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
FINE = [
    "203.0.113.7",
    "10.0.0.1",
    "172.16.0.2",
    "192.168.1.1",
    "100.64.0.1",
    "fd12:3456::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "64:ff9b::cb00:7107",
]


@pytest.mark.parametrize("address", FOR_NOBODY)
@pytest.mark.parametrize("host", ["s3.example.org", "localhost", None])
def test_link_local_addresses_and_metadata_services_are_for_nobody(host: str | None, address: str) -> None:
    """Neither for a name nor for an address written out."""
    host = host or address

    with pytest.raises(AddressNotAllowedError, match=r"(a link-local address|a cloud's metadata service)$"):
        check_addresses(host, [address])


@pytest.mark.parametrize("address", FOR_NO_NAME)
@pytest.mark.parametrize("host", ["s3.example.org", "localhost"])
def test_a_name_leads_to_no_address_that_is_of_no_single_machine(host: str, address: str) -> None:
    """Some systems take 0.0.0.0 for this machine."""
    with pytest.raises(AddressNotAllowedError, match=f"{host} leads to {address}, an address of no single"):
        check_addresses(host, [address])


@pytest.mark.parametrize("address", LOOPBACK)
@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("bucket.s3.localhost", True),
        ("127.0.0.1", True),
        ("s3.example.org", False),
        ("notlocalhost", False),
        ("localhost.example.org", False),
        ("2130706433", False),
        ("0x7f.1", False),
        ("127.1", False),
    ],
)
def test_only_localhost_and_an_address_written_out_lead_to_this_machine(
    host: str, address: str, *, is_allowed: bool
) -> None:
    """A name under somebody else's power must not reach what listens here."""
    if is_allowed:
        check_addresses(host, [address])
    else:
        with pytest.raises(AddressNotAllowedError, match=f"{host} leads to {address}, this machine itself"):
            check_addresses(host, [address])


@pytest.mark.parametrize("address", FINE)
def test_any_other_address_is_fine(address: str) -> None:
    """Networks of one's own too: archives live there."""
    check_addresses("s3.example.org", [address])
    check_literal(address)


def test_one_forbidden_address_among_others_is_enough() -> None:
    """Which one would be connected to is not for us to guess."""
    with pytest.raises(AddressNotAllowedError, match=r"169\.254"):
        check_addresses("s3.example.org", ["203.0.113.7", "169.254.169.254"])


def test_an_address_written_out_is_refused_as_what_it_is() -> None:
    """It leads nowhere else."""
    with pytest.raises(AddressNotAllowedError) as caught:
        check_literal("169.254.169.254")

    assert str(caught.value) == "169.254.169.254 is a link-local address"


def test_a_name_is_not_judged_before_it_is_resolved() -> None:
    """Only what it leads to counts."""
    check_literal("metadata.example.org")


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "0177.0.0.1", "2130706433", "127.0.0.1.", "[::1]", "", "a"]
)
def test_an_address_has_one_form_only(host: str) -> None:
    """Others are names, to be resolved and looked at."""
    assert not is_ip_address(host)


async def test_the_resolver_gives_what_the_name_service_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all of it is allowed."""
    names = NameService({"s3.example.test": [["203.0.113.7", "10.0.0.1"]]}).install(monkeypatch)

    found = await CheckingResolver().resolve("s3.example.test", 9000, socket.AF_INET)

    assert [(one["hostname"], one["host"], one["port"]) for one in found] == [
        ("s3.example.test", "203.0.113.7", 9000),
        ("s3.example.test", "10.0.0.1", 9000),
    ]
    assert names.asked == ["s3.example.test"]


async def test_the_resolver_looks_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fine a moment ago may not be now."""
    NameService({"s3.example.test": [["203.0.113.7"], ["169.254.169.254"]]}).install(monkeypatch)
    resolver = CheckingResolver()
    await resolver.resolve("s3.example.test")

    with pytest.raises(AddressNotAllowedError, match=r"s3\.example\.test leads to 169\.254\.169\.254"):
        await resolver.resolve("s3.example.test")
