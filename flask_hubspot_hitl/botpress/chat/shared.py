"""Hold what the parts of a chat bridge share on one app."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask

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


class Part:
    """Be a part of a chat bridge, with all that the parts share at hand."""

    def __init__(self, shared: Shared) -> None:
        self._app, self._runtime, self._ledger = shared.app, shared.runtime, shared.runtime.ledger
        self._relay, self._api, self._users = shared.relay, shared.api, shared.users
        self._sessions, self._delivery = shared.sessions, shared.delivery
