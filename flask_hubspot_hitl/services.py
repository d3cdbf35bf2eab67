"""What the rules work with, for one app: settings, ledger, and a client for each portal."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from .clock import Clock
from .config import Settings, is_loopback
from .errors import NotConfigured
from .hubspot.client import HubSpotClient
from .hubspot.oauth import RefreshingToken, StaticToken, TokenProvider
from .ledger import Ledger


@dataclass(slots=True)
class Services:
    """One app's settings, ledger, clock and HubSpot clients."""

    settings: Settings
    ledger: Ledger
    clock: Clock
    receipts_refused: int = 0
    """How many receipts HubSpot answered with a 4xx, in this process."""
    _notes_refused: dict[str, int] = field(default_factory=dict, repr=False)
    _clients: dict[str, HubSpotClient] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

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
                self._clients[portal_id] = HubSpotClient(
                    base_url=settings.api_base_url,
                    api_version=settings.api_version,
                    tokens=self._tokens(),
                    clock=self.clock,
                    developer_api_key=settings.developer_api_key,
                    app_id=settings.app_id,
                    proxy=settings.proxy,
                )
            return self._clients[portal_id]

    def _tokens(self) -> TokenProvider:
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
        )
