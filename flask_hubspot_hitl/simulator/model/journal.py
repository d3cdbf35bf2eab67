"""What exists of HubSpot's webhooks journal in the stand-in: its files, an app's subscriptions, tokens of apps.

Knows nothing of HTTP. Times are epoch ms. Source: docs/hubspot.rst (Journal).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]

EVENT_TYPES = {"APP_INSTALL": "4-1909196", "APP_UNINSTALL": "4-1916193"}
KEPT_MS = 3 * 86_400_000
"""Milliseconds that a file of the journal is kept for."""
URL_MS = 3_600_000
"""Milliseconds for which the address of a file is good."""


@dataclass
class AppToken:
    """An access token of an app itself, which belongs to no portal."""

    value: str = field(repr=False)
    app_id: str
    scopes: tuple[str, ...]
    expires_ms: int


@dataclass
class JournalFile:
    """Some events of one app, which were published together."""

    app_id: str
    events: list[JSON]
    published_ms: int
    offset: str = field(default_factory=lambda: str(uuid.uuid4()))

    def has(self, portal_id: str | None) -> bool:
        """Whether it tells of a portal; of any, with None."""
        return portal_id is None or any(str(one["portalId"]) == portal_id for one in self.events)


@dataclass
class JournalSubscription:
    """What an app wants to be told of; ``given`` is what it said."""

    id: int
    app_id: str
    given: JSON
    created_ms: int

    @property
    def event_type(self) -> str:
        """The type of its events or objects."""
        return str(self.given.get("eventTypeId") or self.given.get("objectTypeId") or "")


class Journal:
    """All apps' journals. Its clock runs ahead by ``passed_ms``, so that a test need not wait three days."""

    def __init__(self) -> None:
        self.files: list[JournalFile] = []
        self.subscriptions: dict[int, JournalSubscription] = {}
        self.tokens: dict[str, AppToken] = {}
        self.urls: dict[str, tuple[JournalFile, int]] = {}  # signature -> file, until when
        self.passed_ms = 0

    def kept(self, app_id: str, now: int) -> list[JournalFile]:
        """The files of an app that can still be read, oldest first."""
        return [one for one in self.files if one.app_id == app_id and self.is_kept(one, now)]

    def is_kept(self, file: JournalFile, now: int) -> bool:
        """Whether a file is not too old."""
        return now + self.passed_ms - file.published_ms < KEPT_MS

    def subscribed(self, app_id: str, event_type: str) -> bool:
        """Whether an app wants to be told of a type of event."""
        return any((one.app_id, one.event_type) == (app_id, event_type) for one in self.subscriptions.values())
