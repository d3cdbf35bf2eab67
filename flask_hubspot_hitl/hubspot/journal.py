"""Read HubSpot's webhooks journal, the only place that tells who has installed the app, and who has removed it.

Of ours it may import ``errors``, ``clock`` and its neighbours here; no Flask, no database. What an event means is the
business of ``portals``. Source: docs/hubspot.rst (Journal).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..clock import Clock, to_ms
from ..errors import HubSpotRejected, HubSpotUnavailable
from . import addresses
from .calls import Caller
from .oauth import TokenEndpoint
from .options import ClientOptions
from .transport import Answer, Transport, bounded

OAUTH_VERSION = "2026-09"
"""The version of OAuth whose token endpoint is known to give tokens to an app itself."""
SCOPES = (
    "developer.webhooks_journal.read",
    "developer.webhooks_journal.subscriptions.read",
    "developer.webhooks_journal.subscriptions.write",
)
"""What the app's own token is asked for. They are no scopes of an installation."""
INSTALLED, REMOVED = "APP_INSTALL", "APP_UNINSTALL"
EVENT_TYPES = {INSTALLED: "4-1909196", REMOVED: "4-1916193"}
"""What is subscribed to, by the action that its events have."""
_GONE = frozenset({400, 404, 410})
"""What HubSpot may answer to an offset that the journal has not, or not any more; it does not say which."""


class OffsetGone(HubSpotRejected):
    """Say that the journal does not have the offset any more: it keeps three days."""


class Unreadable(HubSpotUnavailable):
    """Say that a file of the journal can't be read. That may pass, or not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold where a file of the journal is; ``url`` is signed, and good for everybody who has it."""

    offset: str
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Hold what the journal tells of one portal."""

    action: str
    """:data:`INSTALLED` or :data:`REMOVED`."""
    portal_id: str
    occurred: str
    """When, as HubSpot writes it: with the two above the identity of the event."""
    occurred_ms: int | None
    """Epoch ms; None when that can't be read."""


@dataclass(frozen=True, slots=True)
class Page:
    """Hold what is in a file."""

    events: tuple[Lifecycle, ...]
    published_ms: int | None
    """Epoch ms; None when HubSpot does not say."""
    is_whole: bool
    """False when there was something that can't be read."""


class AppToken:
    """Provide the token of the app itself, which belongs to no portal; a :class:`.tokens.TokenProvider`.

    It has no refresh token, so each process asks for one of its own, and again when that has expired.
    """

    def __init__(self, endpoint: TokenEndpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._lock = threading.Lock()
        self._access: str | None = None
        self._renew_at_ms = 0

    def __repr__(self) -> str:
        return f"AppToken({self._endpoint!r})"

    def token(self) -> str:
        """Return a token to use now.

        :raises HubSpotRejected: when HubSpot refuses the app, or the scopes.
        :raises HubSpotUnavailable: when it may work later.
        """
        with self._lock:
            if self._access is None or self._clock.now_ms() >= self._renew_at_ms:
                tokens = self._endpoint.for_the_app(SCOPES)
                self._access, self._renew_at_ms = tokens.access_token, tokens.renew_at_ms
            return self._access

    def refresh(self, rejected: str) -> str:
        """Return another token, because HubSpot answered 401 to ``rejected``; raises like :meth:`token`."""
        with self._lock:
            if self._access == rejected:
                self._access = None
        return self.token()


class JournalCalls(Caller):
    """Call HubSpot's journal for one app; see :class:`.options.ClientOptions` for the settings."""

    def __init__(self, options: ClientOptions, *, endpoint: TokenEndpoint) -> None:
        super().__init__(options, tokens=AppToken(endpoint, options.connection.clock))
        self._endpoint = endpoint

    def close(self) -> None:
        """Close the idle connections to HubSpot."""
        super().close()
        self._endpoint.close()

    def following(self, offset: str | None) -> Entry | None:
        """Return where the file after an offset is, with None the earliest one; None when there is nothing newer.

        :raises OffsetGone: when the journal does not have the offset any more.
        """
        doing = "reading HubSpot's journal"
        path = self.paths.journal_earliest() if offset is None else self.paths.journal_after(offset)
        try:
            found = self.call("GET", path, doing=doing)
        except HubSpotRejected as error:
            if offset is not None and error.status in _GONE:
                raise OffsetGone(str(error), status=error.status) from None
            raise
        if not found:
            return None
        url, there = found.get("url"), found.get("currentOffset")
        if not (isinstance(url, str) and isinstance(there, str) and 0 < len(there) <= 200):
            raise HubSpotUnavailable(f"{doing}: HubSpot's answer names no file")
        return Entry(there, url)

    def read(self, entry: Entry) -> Page:
        """Fetch a file, from a storage that must not see our token, and return what it tells of our app.

        :raises Unreadable: when the file can't be read.
        :raises HubSpotUnavailable: when the storage does not answer.
        """
        body = self._file(entry).json()
        events = None if body is None else body.get("journalEvents")
        if body is None or not isinstance(events, list):
            raise Unreadable("reading a file of HubSpot's journal: it is not what a file of the journal is")
        found, is_whole = [], True
        for one in events:
            if isinstance(one, dict) and not self._concerns_us(one):
                continue
            event = _lifecycle(one)
            if event is None:
                is_whole = False
            else:
                found.append(event)
        return Page(tuple(found), _moment(body.get("publishedAt")), is_whole)

    def _concerns_us(self, event: Mapping[str, Any]) -> bool:
        """Whether an event tells that an app came or went, and names no other app than ours."""
        app_id = event.get("appId")
        is_ours = app_id is None or self.options.app_id is None or str(app_id) == self.options.app_id
        return is_ours and str(event.get("action")) in EVENT_TYPES

    def _file(self, entry: Entry) -> Answer:
        doing = "reading a file of HubSpot's journal"
        try:
            address = addresses.parse(entry.url)
        except addresses.AddressRefused as refused:
            raise Unreadable(f"{doing}: its address {refused}") from None
        is_here = address.is_loopback and addresses.parse(self.options.base_url).is_loopback
        if not is_here and (address.is_loopback or (address.scheme, address.port) != ("https", 443)):
            raise Unreadable(f"{doing}: its address is not https to the Internet")
        path = address.target.partition("?")[0]
        storage = Transport(
            address.origin, self.options.connection, service="the journal's storage", secrets=path.split("/")
        )
        try:
            answer = bounded(lambda: storage.send("GET", address.target, doing=doing), doing=doing, safe=True)
        except HubSpotUnavailable as error:
            if error.status is not None:  # it did answer, and what came is too big, too slow or broken off
                raise Unreadable(str(error), status=error.status) from None
            raise
        finally:
            storage.close()
        if answer.status >= 500 or answer.status in (408, 429):
            raise HubSpotUnavailable(f"{doing}: the journal's storage answered {answer.status}", status=answer.status)
        if answer.status != 200:
            raise Unreadable(f"{doing}: the journal's storage answered {answer.status}", status=answer.status)
        return answer

    # Subscriptions

    def subscribed(self) -> set[str]:
        """Return to which of :data:`EVENT_TYPES` the app has subscribed, by action."""
        path = self.paths.journal_subscriptions()
        there = self.read_list(path, doing="listing the journal's subscriptions")
        kinds = {str(one.get("objectTypeId")) for one in there if one.get("subscriptionType") == "APP_LIFECYCLE_EVENT"}
        kinds |= {str(action) for one in there for action in one.get("actions") or ()}
        return {action for action, kind in EVENT_TYPES.items() if kinds & {action, kind}}

    def subscribe(self, action: str) -> None:
        """Subscribe to one of :data:`EVENT_TYPES` (``AppLifecycleEventSubscriptionUpsertRequest``)."""
        body = {"subscriptionType": "APP_LIFECYCLE_EVENT", "eventTypeId": EVENT_TYPES[action], "properties": []}
        path = self.paths.journal_subscriptions()
        self.call("POST", path, doing="subscribing to the journal", body=body, answer=False)


def _lifecycle(event: object) -> Lifecycle | None:
    if not isinstance(event, dict):
        return None
    portal_id, occurred = str(event.get("portalId")), event.get("occurredAt")
    if occurred is None or not re.fullmatch("[0-9]{1,20}", portal_id):
        return None
    return Lifecycle(str(event["action"]), portal_id, str(occurred)[:60], _moment(occurred))


def _moment(value: object) -> int | None:
    """Return a time, written as epoch ms or in ISO 8601, as epoch ms; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value < 10**14 else None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if found is None or found.tzinfo is None else to_ms(found)
