"""Hold what the parts of a chat bridge share on one app."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask

from ...ledger import Ledger
from ...runtime import Runtime
from ..delivery import Delivery
from ..relay import Relay
from ..session import Sessions
from .api import ChatApi
from .users import Users


@dataclass(frozen=True, slots=True)
class Shared:
    """Hold one of each part."""

    app: Flask
    runtime: Runtime
    relay: Relay
    api: ChatApi
    users: Users
    sessions: Sessions
    delivery: Delivery

    @property
    def ledger(self) -> Ledger:
        """Return the app's database."""
        return self.runtime.ledger
