import pytest

from worker.libsafe.addresses import check_host
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
