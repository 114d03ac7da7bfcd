"""How to reach one storage, and what it may cost us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAccess:
    """How to reach one storage.

    Args:
        endpoint_url: None for AWS itself.
        region: Also other servers want one; `us-east-1` if they do not say.
        access_key: The key's id.
        secret_key: Never shown.
        session_token: Only with temporary credentials; never shown.
        addressing_style: Where the bucket goes: in the path, in the host name, or as the client finds fit.
        verify_tls: False trusts any certificate; a path names a file of CA certificates.
    """

    endpoint_url: str | None
    region: str
    access_key: str
    secret_key: SecretStr
    session_token: SecretStr | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    verify_tls: bool | str = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What one storage may cost us.

    Args:
        max_connections: Requests under way at once; others wait for their turn.
        connect_timeout_seconds: For one connection.
        stall_timeout_seconds: How long a storage may be silent, and the window of the floor on the rate.
        floor_bytes_per_second: A body that brings less over a window is cut and resumed.
        attempts: Requests for one pin or one range, the first included; those that are answered with the wish
            to slow down do not count.
        first_pause_seconds: The longest pause before the second attempt; it doubles with each attempt.
        longest_pause_seconds: Where the doubling ends.
        patience_seconds: How long a storage may go on wishing us to slow down, and send nothing else.
    """

    max_connections: int = 16
    connect_timeout_seconds: float = 5
    stall_timeout_seconds: float = 30
    floor_bytes_per_second: int = 64 * 1024
    attempts: int = 8
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 20
    patience_seconds: float = 900
