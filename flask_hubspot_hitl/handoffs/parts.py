"""Put together what takes webhooks in and calls HubSpot, for one app."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..clock import Clock
from ..config import Settings
from ..ledger import Ledger
from ..metrics import Meter
from ..portals.clients import Services
from .files import Links
from .intake import Intake


class Parts:
    """Hold what a process needs that serves or dispatches, and no other."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        clock: Clock,
        meter: Meter,
        secret_keys: Callable[[], Sequence[str | bytes]],
    ) -> None:
        self.services = Services(settings=settings, ledger=ledger, clock=clock, meter=meter, secret_keys=secret_keys)
        self.intake = Intake(settings, ledger)
        self.links = Links(self.services)
