"""What the rules work with, for one app: settings, ledger, and a client for each portal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .clock import Clock
from .config import Settings, is_loopback
from .errors import NotConfigured
from .hubspot.client import HubSpotClient
from .hubspot.oauth import RefreshingToken, StaticToken, TokenProvider, TokenStore
from .ledger import Ledger
from .remote_files import Fetcher
from .throttle import Throttle


@dataclass(slots=True)
class Services:
    """One app's settings, ledger, clock and HubSpot clients."""

    settings: Settings
    ledger: Ledger
    clock: Clock
    secret_keys: Callable[[], Sequence[str | bytes]] = field(default=tuple, repr=False)
    """The app's ``SECRET_KEY`` and its fallbacks, asked for when a client is made."""
    receipts_refused: int = 0
    """How many receipts HubSpot answered with a 4xx, in this process."""
    remote_files: Fetcher = field(init=False)
    """Fetches the attachments that are given by URL."""
    _notes_refused: dict[str, int] = field(default_factory=dict, repr=False)
    _clients: dict[str, HubSpotClient] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.remote_files = Fetcher(
            settings.attachment_hosts, limit=settings.max_attachment_bytes, proxy=settings.proxy
        )

    @property
    def is_stand_in(self) -> bool:
        """True when HubSpot is played by something on this machine."""
        return is_loopback(self.settings.api_base_url)

    def notes_refused(self, portal_id: str, now: int) -> None:
        """Remember that a portal takes no notes: for an hour, histories go into the first message."""
        self._notes_refused[portal_id] = now + 3_600_000

    def takes_notes(self, portal_id: str) -> bool:
        """False for an hour after HubSpot refused a note."""
        return self.ledger.now_ms() >= self._notes_refused.get(portal_id, 0)

    def client(self, portal_id: str) -> HubSpotClient:
        """The client that speaks for a portal.

        :raises NotConfigured: when we have no token for it.
        """
        settings = self.settings
        if portal_id != settings.portal_id:
            raise NotConfigured(f"portal {portal_id} is not installed; HUBSPOT_HITL_PORTAL_ID is {settings.portal_id}")
        with self._lock:
            if portal_id not in self._clients:
                gate = Throttle(self.ledger, portal_id, settings.rate_limit)
                self._clients[portal_id] = HubSpotClient(
                    base_url=settings.api_base_url,
                    api_version=settings.api_version,
                    tokens=self._tokens(portal_id, gate),
                    clock=self.clock,
                    developer_api_key=settings.developer_api_key,
                    app_id=settings.app_id,
                    proxy=settings.proxy,
                    gate=gate,
                )
            return self._clients[portal_id]

    def _tokens(self, portal_id: str, gate: Throttle) -> TokenProvider:
        settings = self.settings
        if settings.access_token:
            return StaticToken(settings.access_token)
        if not settings.refresh_token or not settings.client_id:
            raise NotConfigured(
                "there is no token for HubSpot: set HUBSPOT_HITL_REFRESH_TOKEN (with HUBSPOT_HITL_CLIENT_ID) "
                "or HUBSPOT_HITL_ACCESS_TOKEN"
            )
        return RefreshingToken(
            base_url=settings.api_base_url,
            api_version=settings.api_version,
            client_id=settings.client_id,
            client_secret=settings.client_secret[0],
            refresh_token=settings.refresh_token,
            clock=self.clock,
            proxy=settings.proxy,
            gate=gate,
            store=self._store(portal_id, settings.refresh_token),
        )

    def _store(self, portal_id: str, refresh_token: str) -> TokenStore | None:
        """Where all processes keep a portal's tokens; None without a key to encrypt them with."""
        secret_keys = self.secret_keys()
        if not self.settings.encryption_key and not secret_keys:
            return None
        from .ledger.crypto import Cipher
        from .sharing import DatabaseTokens

        try:
            cipher = Cipher(self.settings.encryption_key, secret_keys)
        except ValueError as error:
            raise NotConfigured(str(error)) from None
        return DatabaseTokens(self.ledger, portal_id, cipher, refresh_token)
