"""The one object behind the stand-in's Flask app: the lock, the world, the switches and the two logs."""

from __future__ import annotations

import threading
from collections import deque
from typing import cast

from flask import current_app

from . import preset
from .chaos import Chaos
from .deliveries import Deliveries
from .journal import Journal
from .recording import Recording
from .world import JSON, Ids, World, now_ms

LOG_LIMIT = 50_000


class Simulation:
    """Everything is read and changed with ``lock`` held; the middleware takes it around each request."""

    def __init__(self, *, base_url: str = "http://127.0.0.1", control_token: str | None = None) -> None:
        self.lock = threading.RLock()
        self.base_url = base_url
        self.control_token = control_token
        self.allowed_hosts: frozenset[str] = frozenset()
        self.ids = Ids()
        self.world: World = preset.preset_world(self.ids)
        self.chaos = Chaos()
        self.requests: deque[JSON] = deque(maxlen=LOG_LIMIT)
        self.journal = Journal()
        self.deliveries = Deliveries(self)
        self.recording: Recording | None = None

    def reset(self) -> None:
        """Back to the preset. Live access tokens of the preset portal stay good, so that hosts keep working."""
        kept = {
            value: token
            for value, token in self.world.tokens.items()
            if (token.app_id, token.portal_id) == (preset.APP_ID, preset.PORTAL_ID)
            and token.expires_ms is not None
            and token.expires_ms > now_ms()
        }
        self.world = preset.preset_world(self.ids)
        self.world.tokens.update(kept)
        self.chaos = Chaos()
        self.requests.clear()
        self.deliveries.clear()
        self.journal.clear()

    def log_call(self, entry: JSON) -> None:
        """Keep an API call that was served."""
        self.requests.append(entry)
        self.journal.add("call", entry)
        if self.recording is not None:
            self.recording.add("api", entry, self.world)

    def log_delivery(self, entry: JSON) -> None:
        """Tell of a delivery that was tried; ``deliveries`` keeps it."""
        self.journal.add("delivery", entry)
        if self.recording is not None:
            self.recording.add("webhook-out", entry, self.world)


def current() -> Simulation:
    """The simulation behind the running Flask app."""
    return cast(Simulation, current_app.extensions["simulation"])
