"""How HubSpot is reached, and who calls it: what clients, token endpoints and transports are made with.

Of ours it may import ``clock`` and ``metrics``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ..clock import Clock
from ..metrics import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Describe how a server is connected to."""

    clock: Clock
    timeout: tuple[float, float] = (3.05, 10.0)
    """Seconds to wait for a connection, and for the next bytes of an answer."""
    attempt_seconds: float = 60.0
    """Seconds that an attempt may take from the connection to the last byte, at most."""
    proxy: str | None = None
    """URL of an HTTP proxy; None: connect directly."""
    private_hosts: Collection[str] = ()
    """Hosts that may be in a private network. Without a proxy any other host has to be public, or this machine by its
    very spelling."""
    max_response_bytes: int = 10_000_000
    """Decoded bytes of the longest answer that is read."""
    pool_size: int = 32
    """Connections to one host that are kept open."""
    meter: Meter = field(default_factory=Meter, repr=False, compare=False)
    """Takes how long calls last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Describe the API that a client calls, and the app that calls it."""

    base_url: str
    api_version: str
    """One of :data:`.paths.API_VERSIONS`."""
    connection: ConnectionOptions
    developer_api_key: str | None = field(default=None, repr=False)
    """Needed for the calls on channels only."""
    app_id: str | None = None
    """Needed for the calls on channels only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthOptions:
    """Describe the app to HubSpot's token endpoint."""

    base_url: str
    oauth_version: str
    """One of :data:`.paths.OAUTH_VERSIONS`."""
    client_id: str
    client_secret: str = field(repr=False)
    connection: ConnectionOptions
