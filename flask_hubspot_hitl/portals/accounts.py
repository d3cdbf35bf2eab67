"""Tell whether a channel account is ours, store it, and have a portal's accounts read again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Settings
from ..hubspot.text import scrub
from ..ledger import AccountRecord, NewEvent, Topic, Transaction, lanes
from . import installations, routing

LOOK_AFTER_MS = (1_000, 60_000)
"""Milliseconds after a hint at which the accounts are read, twice: HubSpot's writes take an unknown time to show."""


@dataclass(frozen=True, slots=True)
class Look:
    """Hold what the event of a look tells its task: milliseconds after it was put that the accounts are read."""

    after_ms: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Look:
        """Return what :meth:`to_json` gave."""
        return cls(int(value["after"]))

    def to_json(self) -> dict[str, int]:
        """Return the look as it is stored."""
        return {"after": self.after_ms}


def is_ours(tx: Transaction, settings: Settings, portal_id: str, channel_id: str | None) -> bool:
    """Return True for our channel in a portal that there is a token for."""
    if channel_id is None or channel_id != routing.channel_of(tx, settings):
        return False
    return installations.has_token(tx, settings, portal_id)


def look_at(tx: Transaction, portal_id: str, *, now: int) -> int:
    """Have a portal's accounts read soon.

    :param now: epoch ms.
    :returns: how many looks were added: those that wait already are enough.
    """
    return sum(look_later(tx, portal_id, after, now=now) for after in LOOK_AFTER_MS)


def look_later(tx: Transaction, portal_id: str, after: int, *, now: int) -> int:
    """Have a portal's accounts read later.

    :param after: milliseconds from now.
    :param now: epoch ms.
    :returns: 1 if the look is new, else 0.
    """
    lane = lanes.accounts(portal_id, after)
    if tx.queue.has_pending(lane, unbegun=True):
        return 0
    look = NewEvent(
        dedupe_key=f"{lane}:{uuid.uuid4().hex}",
        lane=lane,
        topic=Topic.ACCOUNTS,
        sort_at=now,
        portal_id=portal_id,
        payload=Look(after).to_json(),
        due_at=now + after,
    )
    return tx.queue.put([look], now=now)


def record_of(portal_id: str, account: Mapping[str, Any]) -> AccountRecord:
    """Return HubSpot's ``PublicChannelAccount`` as it is stored.

    Only an account that is switched on can be used.
    """
    name, found = account.get("name"), account.get("deliveryIdentifier")
    identifier = {key: scrub(str(found.get(key))) for key in ("type", "value")} if isinstance(found, Mapping) else None
    return AccountRecord(
        portal_id=portal_id,
        account_id=str(account.get("id")),
        channel_id=str(account.get("channelId")),
        inbox_id=str(account.get("inboxId")),
        name=scrub(name) if isinstance(name, str) else None,
        identifier=identifier,
        authorized=account.get("authorized") is True and account.get("active") is not False,
    )
