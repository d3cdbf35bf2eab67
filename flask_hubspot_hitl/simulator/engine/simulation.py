"""The one object behind the stand-in's Flask app: the lock, the world, the switches and the two logs."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast

from flask import current_app

from ..model import preset
from ..model.world import JSON, Ids, World, now_ms
from .chaos import Chaos
from .deliveries import Deliveries
from .journal import Journal
from .limits import Limits
from .recording import Recording

LOG_LIMIT = 50_000


class Simulation:
    """Everything is read and changed with ``lock`` held; the middleware takes it around each request."""

    def __init__(
        self,
        *,
        base_url: str = "http://127.0.0.1",
        control_token: str | None = None,
        chaos: Sequence[str] = (),
        deliver: Sequence[str] = (),
        contacts: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """``chaos`` and ``deliver`` are the command line's. Raises ApiError or ValueError when they make no sense.

        ``contacts`` are the properties of further contacts, which are there after each reset.
        """
        self.lock = threading.RLock()
        self.base_url = base_url
        self.control_token = control_token
        self.allowed_hosts: frozenset[str] = frozenset()
        self._chaos_lines = tuple(chaos)
        self._connect_to = dict(connection(item) for item in deliver)
        self.ids = Ids()
        self._contacts = tuple(contacts)
        self.world: World = preset.preset_world(self.ids, self._contacts)
        self.chaos = self._first_chaos()
        self.requests: deque[JSON] = deque(maxlen=LOG_LIMIT)
        self.journal = Journal()
        self.deliveries = Deliveries(self)
        self.recording: Recording | None = None
        self.limits = Limits()

    def _first_chaos(self) -> Chaos:
        """The switches as the command line left them."""
        chaos = Chaos()
        for line in self._chaos_lines:
            chaos.change_by(line)
        return chaos

    def connect_to(self, url: str) -> str:
        """Where a delivery to a registered URL really goes: the longest ``--deliver FROM=TO`` that fits."""
        for begin in sorted(self._connect_to, key=len, reverse=True):
            if url == begin or url.startswith((f"{begin}/", f"{begin}?")):
                return self._connect_to[begin] + url[len(begin) :]
        return url

    def reset(self) -> None:
        """Back to the preset. Live access tokens of the preset portal stay good, so that hosts keep working."""
        kept = {
            value: token
            for value, token in self.world.tokens.items()
            if (token.app_id, token.portal_id) == (preset.APP_ID, preset.PORTAL_ID)
            and token.expires_ms is not None
            and token.expires_ms > now_ms()
        }
        self.world = preset.preset_world(self.ids, self._contacts)
        self.world.tokens.update(kept)
        self.chaos = self._first_chaos()
        self.requests.clear()
        self.deliveries.clear()
        self.limits = Limits()
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


def connection(text: str) -> tuple[str, str]:
    """``FROM=TO``: the beginnings of two URLs, without their last slash. Raises ValueError."""
    begin, equals, to = text.partition("=http")
    to = f"http{to}"
    for url in (begin, to):
        if not equals or not re.fullmatch(r"https?://[!-~]+", url) or "?" in url:
            raise ValueError(f"{text!r} is not FROM=TO with two http or https addresses")
    return begin.rstrip("/"), to.rstrip("/")


def current() -> Simulation:
    """The simulation behind the running Flask app."""
    return cast(Simulation, current_app.extensions["simulation"])
