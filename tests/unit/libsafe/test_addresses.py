import pytest

from worker.libsafe.addresses import api_address, check_host
from worker.libsafe.errors import HostNotAllowedError


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://go.example.org/api", "go.example.org"),
        ("http://go.example.org", "go.example.org"),
        ("http://GO.example.org", "go.EXAMPLE.org"),
        ("https://go.example.org", "go.example.org:443"),
        ("https://go.example.org:8443", "go.example.org:8443"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("http://[::1]:5000", "[::1]:5000"),
    ],
)
def test_a_host_on_the_list_may_be_given_a_key(url: str, allowed: str) -> None:
    """The list names hosts, with a port where it is not the scheme's usual one."""
    check_host(url, ["other.example.org", allowed])

    with pytest.raises(HostNotAllowedError):
        check_host(url, ["other.example.org"])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://go.example.org", ""),
        ("https://go.example.org:8443", "go.example.org"),
        ("https://go.example.org", "go.example.org:8443"),
        ("http://go.example.org", "go.example.org:443"),
        ("https://evil.go.example.org", "go.example.org"),
        ("https://go.example.org.evil", "go.example.org"),
        ("https://xgo.example.org", "go.example.org"),
        ("https://go.example.org.", "go.example.org"),
        ("https://go.example.org@evil", "go.example.org"),
        ("https://evil#@go.example.org", "go.example.org"),
        ("https://evil\\@go.example.org", "go.example.org"),
        ("http://169.254.169.254", "go.example.org"),
        ("http://2130706433", "127.0.0.1"),
        ("file:///etc/passwd", ""),
        ("ftp://go.example.org", "go.example.org"),
        ("go.example.org", "go.example.org"),
        ("", ""),
        ("https://go.example.org", "*"),
        ("https://go.example.org", "*.example.org"),
    ],
)
def test_any_other_host_is_refused(url: str, allowed: str) -> None:
    """A host is met exactly; there are no patterns and no guesses."""
    with pytest.raises(HostNotAllowedError):
        check_host(url, [allowed])


def test_an_empty_list_allows_nothing() -> None:
    """Nothing is allowed that nobody has named."""
    with pytest.raises(HostNotAllowedError, match=r"go\.example\.org:443, which is not on the list"):
        check_host("https://go.example.org", [])


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    """What is refused may hold a secret."""
    with pytest.raises(HostNotAllowedError) as caught:
        check_host("https://user:hunter2@go.example.org", ["go.example.org"])

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "0x7f.1",
        "0x7f000001",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "169.254.169.254.",
        "2852039166",
        "256.1.1.1",
        "example.1",
        "[fe80::1%eth0]",
        "[fe80::1%25eth0]",
        "[::1%1]",
    ],
)
def test_an_ip_address_in_an_odd_form_is_refused_though_the_list_names_it(host: str) -> None:
    """Some parsers read it as an address and others as a name, so two of them would see two hosts."""
    with pytest.raises(HostNotAllowedError, match="one usual form"):
        check_host(f"http://{host}:8000", [f"{host}:8000"])
    with pytest.raises(ValueError, match="one usual form"):
        api_address(f"http://{host}:8000/api")


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.0.1", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]", "168.63.129.16"],
)
def test_an_address_that_is_for_nobody_is_refused_though_the_list_names_it(host: str) -> None:
    """What is told there is for this machine alone; no platform is there."""
    with pytest.raises(HostNotAllowedError, match=r"No key is sent, .* is a (link-local|cloud's)"):
        check_host(f"http://{host}", [host])


@pytest.mark.parametrize("host", ["go.example.org.", "127.0.0.1.nip.example", "1and1.example", "0.example"])
def test_an_odd_name_is_a_name_and_met_exactly(host: str) -> None:
    """With its dot at the end it is allowed only if the list has that too."""
    check_host(f"http://{host}", [host])

    with pytest.raises(HostNotAllowedError, match="not on the list"):
        check_host(f"http://{host}", [host.rstrip(".") + ".example.org", "go.example.org", "127.0.0.1"])


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "file://go.example.org/etc", "gopher://go.example.org"]
)
def test_another_scheme_is_refused_though_the_host_is_allowed(url: str) -> None:
    """Only http and https are spoken."""
    with pytest.raises(HostNotAllowedError, match="http://"):
        check_host(url, ["go.example.org", "", "go.example.org:70"])
