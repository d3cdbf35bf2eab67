"""Keep the place in HubSpot's journal, and turn what it tells into questions to the portals' own tokens.

The journal's word is a hint: whether a portal has us is what its token shows when HubSpot is asked (docs/rules.rst F2).
The functions run inside one transaction and call nobody; times are epoch ms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..config import Settings
from ..hubspot.journal import INSTALLED, REMOVED, Entry, Lifecycle, Page
from ..ledger import InstallationState, NewEvent, Topic, Transaction, lanes
from . import installations

EVERY_MS = 20_000
"""Milliseconds between two looks when there is nothing newer."""
KEPT_MS = 71 * 3_600_000
"""Milliseconds for which an offset is relied on: HubSpot keeps three days, and the hour is for our clock."""
PAUSE_MS = 300_000
"""Milliseconds between two times that every portal is asked: a journal that loses our place each time must not have
all tokens asked all the time."""
START_MS = 300_000
"""Milliseconds within which the starts of several processes are one."""
NAME = "journal"
"""Under which the place is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Hold how far the journal has been read."""

    offset: str | None = None
    """Of the last file that was read; None: from the earliest one on."""
    offset_at: int | None = None
    """When that file was published."""
    read_at: int | None = None
    """When HubSpot last told what there is, if only that there is nothing newer."""
    asked_at: int | None = None
    """When every portal is, or was, asked last."""
    problem: str | None = None
    """Why it can't be read since then."""
    is_refused: bool = False
    """Whether that is because HubSpot says no, which was warned of."""

    def offset_for(self, now: int) -> str | None:
        """Return the offset to go on from; None when the journal keeps nothing of that age: then from the earliest."""
        is_old = self.offset_at is None or now - self.offset_at > KEPT_MS
        return None if is_old else self.offset

    def may_miss(self, now: int) -> bool:
        """Return True when something may have left the journal before it was read."""
        return self.read_at is None or now - self.read_at > KEPT_MS

    def asking(self, now: int) -> Place:
        """Return the place with the time at which every portal is asked next: now, or after a pause."""
        last = now - PAUSE_MS if self.asked_at is None else self.asked_at
        return replace(self, asked_at=last if last > now else max(now, last + PAUSE_MS))

    def read(self, now: int) -> Place:
        """Return the place after HubSpot has answered."""
        return replace(self, read_at=now, problem=None, is_refused=False)

    def after(self, entry: Entry, page: Page | None, now: int) -> Place:
        """Return the place after a file.

        :param page: what was in it; None when it could not be read.
        """
        published = now if page is None or page.published_ms is None else min(page.published_ms, now)
        return replace(self.read(now), offset=entry.offset, offset_at=published)


def load(tx: Transaction) -> Place:
    """Return the place that was stored last; a new one at first."""
    found = tx.get_meta(NAME)
    return Place() if found is None else Place(**json.loads(found))


def save(tx: Transaction, place: Place) -> None:
    """Store the place."""
    tx.set_meta(NAME, json.dumps(asdict(place)))


def schedule(tx: Transaction, *, now: int) -> None:
    """Have the journal read from now on, by one process at a time; once however often it is called."""
    lane = lanes.journal()
    if not tx.queue.has_pending(lane):
        first = NewEvent(dedupe_key=f"{lane}:{now // START_MS}", lane=lane, topic=Topic.JOURNAL, sort_at=now)
        tx.queue.put([first], now=now)


def put(tx: Transaction, events: Iterable[Lifecycle], *, now: int) -> int:
    """Have each portal's token asked that an event tells of; an event that was read before is passed over.

    :returns: how many events are new.
    """
    return tx.queue.put([_question(one, now) for one in events], now=now)


def put_all(tx: Transaction, settings: Settings, *, at: int, now: int) -> int:
    """Have the token asked of every portal that counts as installed: it may be gone since longer than is kept.

    :param at: when; requests for the same time are one.
    :returns: how many.
    """
    there = {one.portal_id for one in tx.installations.all() if one.state is InstallationState.ACTIVE}
    if settings.portal_id is not None:
        there = {settings.portal_id} if is_asked(tx, settings, settings.portal_id, None) else set()
    lanes_of = {portal_id: lanes.journal(portal_id) for portal_id in sorted(there)}
    questions = [
        NewEvent(
            dedupe_key=f"{lane}:all:{at}",
            lane=lane,
            topic=Topic.LIFECYCLE,
            sort_at=at,
            portal_id=portal_id,
            due_at=at,
        )
        for portal_id, lane in lanes_of.items()
    ]
    return tx.queue.put(questions, now=now)


def is_asked(tx: Transaction, settings: Settings, portal_id: str, action: str | None) -> bool:
    """Return True when HubSpot's answer to a portal's token could be news.

    :param action: what the journal tells; None when nothing is known.
    """
    if not installations.has_token(tx, settings, portal_id):
        return False
    found = tx.installations.get(portal_id)
    is_active = found is None or found.state is InstallationState.ACTIVE
    return is_active if action in (REMOVED, None) else not is_active


def action_of(payload: Any) -> str | None:
    """Return what the journal has told, by the payload of the event that asks."""
    action = payload.get("action") if isinstance(payload, dict) else None
    return action if action in (INSTALLED, REMOVED) else None


def _question(event: Lifecycle, now: int) -> NewEvent:
    told = json.dumps([event.action, event.portal_id, event.occurred]).encode()
    lane = lanes.journal(event.portal_id)
    return NewEvent(
        dedupe_key=f"{lane}:{hashlib.sha256(told).hexdigest()}",
        lane=lane,
        topic=Topic.LIFECYCLE,
        sort_at=min(event.occurred_ms or now, now),
        portal_id=event.portal_id,
        payload={"action": event.action},
    )
