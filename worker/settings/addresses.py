"""What a setting has to look like that says where something is: a broker, a platform, CA certificates."""

import re
import ssl
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

# Valkey's databases have numbers. An "@" in the options shows that a password was cut.
_BROKER_PATH_AND_QUERY = re.compile(r"(/[0-9]*)?(\?(&?ssl_[a-z_]+=[^@&#]*)+)?")
# The options that kombu and redis-py read alike: those that name files, and those with few values.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_CHOICES = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}


def is_broker_url(url: str) -> bool:
    """Tell whether Celery and the client of `check` would both read the address as it is meant.

    A "/", "#" or "?" in a password ends the host early (RFC 3986, section 3.2): what follows shows it.
    """
    try:
        parts = urlsplit(url)
        # As it will be looked for; an empty label can be no name.
        has_place = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        return False
    rest = url.partition("://")[2].removeprefix(parts.netloc)
    return (
        has_place
        and url.startswith(("redis://", "rediss://"))
        and _BROKER_PATH_AND_QUERY.fullmatch(rest) is not None
    )


def check_broker_options(url: str) -> None:
    """Make sure that the options of a broker's address can be used.

    Raises:
        ValueError: One can't; the text begins with its name or says that it is none.
    """
    parts = urlsplit(url)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in (*_FILES, *_CHOICES):
            raise ValueError(f"has no option {name}; there are {', '.join((*_FILES, *_CHOICES))}")
        if parts.scheme != "rediss":
            raise ValueError(f"{name} is for TLS: begin with rediss://, or leave it out")
        if value not in _CHOICES.get(name, [value]):
            raise ValueError(f"{name} must be {' or '.join(_CHOICES[name])}")
        if name == "ssl_ca_certs" and (fault := bundle_fault(Path(value))):
            raise ValueError(f"{name} must be a bundle of CA certificates, and {fault}")


def bundle_fault(path: Path) -> str | None:
    """Tell why a file is no bundle of CA certificates, or give None where it is one."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} is none"
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    return None


def is_host(text: str) -> bool:
    """Tell whether a text is ``host`` or ``host:port`` and nothing else."""
    try:
        parts = urlsplit(f"//{text}")
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return has_place and parts.netloc == text and not re.search(r"[@*\s]|:$", text)
