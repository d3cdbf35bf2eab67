"""Choose which events of a webhook concern us, and store them in one transaction before HubSpot gets its 2xx.

A portal is noisy: events of threads we don't know are counted and not stored, unless a handoff of that portal is
just starting; then they are parked until its thread is known.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from ..config import Settings
from ..hubspot.events import Inbound, Kind, Poison
from ..ledger import EventState, Ledger, NewEvent, Transaction, lanes
from ..portals import accounts
from ..portals.arrivals import Arrivals
from . import erasing, rules
from .parking import GAP_MS, SWEEP_MS, watch_parked
from .states import Told

logger = logging.getLogger(__name__)

PARKED_MAX = 10_000
"""Most parked events of a portal (docs/rules.rst B4)."""
QUARANTINE_MAX = 1_000
"""Most quarantined items in the database; later ones are only counted."""
REMEMBERED_MAX = 4_000
"""Threads that a process remembers to be ours, at most: half a megabyte."""


class Intake:
    """Take in what HubSpot sends to one app.

    ``counts``: events by what became of them, in this process. ``short_until``: monotonic time until which webhooks
    wait for the database only briefly, because one timed out on it.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._arrivals = Arrivals(ledger)
        self._ours: set[tuple[str, str]] = set()
        """Threads that were ours when an event of theirs came last: only a guess, the database knows."""
        self.counts: Counter[str] = Counter()
        self.short_until = 0.0

    def accept(self, items: Sequence[Inbound | Poison], *, hint: bool = False) -> int:
        """Store what concerns us; when this returns, it is on disk.

        :param hint: the request proved less than it should (v1), so nothing in it is believed without asking HubSpot.
        :returns: how many events were new.
        :raises LedgerUnavailable: when it can't be stored; nothing was accepted.
        """
        now = self._ledger.now_ms()
        poison = [item for item in items if isinstance(item, Poison)]
        concern = [item for item in items if isinstance(item, Inbound) and self._concerns_us(item, now)]
        stored = self._take_in(concern, poison, hint, now)
        self._arrivals.note({event.kind for event in concern}, now)
        return stored

    def _take_in(self, concern: Sequence[Inbound], poison: list[Poison], hint: bool, now: int) -> int:
        hinted = self._take_hints([event for event in concern if event.kind is Kind.ACCOUNT], now)
        events = [event for event in concern if event.kind is not Kind.ACCOUNT]
        threads = {(event.portal_id, event.thread_id) for event in events}
        if not threads and not poison:
            return hinted
        if len(events) == 1 and not poison and not threads.isdisjoint(self._ours):
            if self._take_known(events[0], hint, now):
                return hinted + 1
            self._ours -= threads
        with self._ledger.read() as tx:
            known = tx.records.handoffs_of_threads(threads)
            unknown = threads - known.keys()
            starting: set[str] = set()
            if unknown:
                # Looked up again, after this: a handoff that is not starting here has its thread stored already.
                starting = tx.records.starting_portals({portal for portal, _ in unknown})
                known |= tx.records.handoffs_of_threads(unknown)
            erased = tx.people.erased({mark for one in events for mark in _marks(one, known)})
            own = rules.own_accounts(
                tx,
                self._settings,
                {(e.channel_id, e.account_id) for e in events if (e.portal_id, e.thread_id) in unknown},
            )
        self._remember(known)
        ours = _own_messages(events, own) | {one.dedupe_key for one in events if _marks(one, known) & erased}
        wanted = [new for event in events if (new := self._place(event, known, starting, ours, now, hint))]
        if not wanted and not poison:
            return hinted
        with self._ledger.write() as tx:
            # Parked events have no lane whose row would keep two deliveries of one batch from waiting for each other.
            portals = sorted({str(new.portal_id) for new in wanted if new.state == EventState.PARKED})
            for portal in portals:
                tx.queue.touch(lanes.parked(portal), due_at=now + SWEEP_MS)
            wanted = self._within_bounds(tx, wanted) + self._quarantined(tx, poison, now)
            stored = tx.queue.put(wanted, now=now)
            late = erasing.refuse_late(tx, wanted, now=now)
            for portal in portals:
                if not tx.queue.has_pending(lanes.parked(portal)):
                    watch_parked(tx, portal, now=now)
        self.counts["stored"] += stored
        self.counts["erased"] += late
        self.counts["repeated"] += len(wanted) - stored
        return stored + hinted

    def _take_known(self, event: Inbound, hint: bool, now: int) -> bool:
        """Store an event of a thread that should be ours.

        :returns: False when it was not stored: the thread is none of ours any more, or the event is known already.
        """
        key = (event.portal_id, event.thread_id)
        new = self._place(event, {key: ""}, set(), set(), now, hint)
        if new is None:
            return False
        marks = erasing.marks_of(*key, Told.from_json(new.payload))
        with self._ledger.write() as tx:
            stored = tx.direct.put(new, marks=marks, now=now)
        self.counts["stored"] += stored.rows
        return stored.rows == 1

    def _remember(self, known: Collection[tuple[str, str]]) -> None:
        if len(self._ours) > REMEMBERED_MAX - len(known):
            self._ours = set()
        self._ours |= set(known)

    def _take_hints(self, events: Sequence[Inbound], now: int) -> int:
        """Have the accounts read of portals where a channel account may have changed.

        :returns: how many looks are new.
        """
        if not events:
            return 0
        with self._ledger.read() as tx:
            ours = {
                event.portal_id
                for event in events
                if accounts.is_ours(tx, self._settings, event.portal_id, event.channel_id)
            }
        self.counts["noise"] += sum(event.portal_id not in ours for event in events)
        if not ours:
            return 0
        self.counts["account hints"] += len(ours)
        with self._ledger.write() as tx:
            return sum(accounts.look_at(tx, portal_id, now=now) for portal_id in sorted(ours))

    def _concerns_us(self, event: Inbound, now: int) -> bool:
        """Check kind, app and age without a query, and count what is refused."""
        why = None
        if event.kind is Kind.OTHER:
            why = "unused"
        elif event.app_id is not None and self._settings.app_id not in (None, event.app_id):
            why = "other app"
        elif event.occurred_ms < now - int(self._settings.retention * 1000):
            why = "too old"
        if why:
            self.counts[why] += 1
        return why is None

    def _place(
        self,
        event: Inbound,
        known: dict[tuple[str, str], str],
        starting: set[str],
        ours: set[str],
        now: int,
        hint: bool,
    ) -> NewEvent | None:
        """Return the event as it is stored, with its lane; None for events of threads that are not ours.

        :param ours: dedupe keys of messages to a channel account of ours, whether their thread is known or not.
        """
        key = (event.portal_id, event.thread_id)
        lane: str | None = lanes.thread(*key)
        state, due_at, payload = EventState.PENDING, None, dict(event.payload)
        if event.kind is not Kind.MESSAGE:
            payload = Told(value=event.value, hint=hint).to_json()
        if key not in known:
            if event.portal_id in starting:
                lane, state = None, EventState.PARKED
            elif event.dedupe_key not in ours:
                self.counts["noise"] += 1
                return None
        elif event.kind is Kind.PRIVACY_DELETED:
            lane = lanes.erasure(*key)  # it does not wait for a receiver of the thread's
        elif event.kind is Kind.NEW_MESSAGE:
            lane, due_at = lanes.new_messages(*key), now + GAP_MS
        return NewEvent(
            dedupe_key=event.dedupe_key,
            lane=lane,
            topic=event.kind.value,
            sort_at=event.occurred_ms,
            portal_id=event.portal_id,
            thread_id=event.thread_id,
            handoff_id=known.get(key),
            payload=payload,
            state=state,
            due_at=due_at,
        )

    def _within_bounds(self, tx: Transaction, wanted: list[NewEvent]) -> list[NewEvent]:
        """Drop events that would exceed PARKED_MAX."""
        room: dict[str, int] = {}
        kept = []
        for new in wanted:
            if new.state == EventState.PARKED:
                portal = str(new.portal_id)
                left = room.setdefault(portal, PARKED_MAX - tx.count(EventState.PARKED, portal))
                if left <= 0:
                    self.counts["not parked"] += 1
                    continue
                room[portal] = left - 1
            kept.append(new)
        return kept

    def _quarantined(self, tx: Transaction, poison: list[Poison], now: int) -> list[NewEvent]:
        """Return unreadable items as quarantined events, at most QUARANTINE_MAX in all."""
        if not poison:
            return []
        self.counts["quarantined"] += len(poison)
        room = max(0, QUARANTINE_MAX - tx.count(EventState.QUARANTINED))
        logger.warning(
            "%d item(s) of a webhook can't be read (%s) and are set aside, the others are handled; see "
            "'flask hubspot-hitl dead list'",
            len(poison),
            poison[0].reason,
        )
        return [
            NewEvent(
                dedupe_key=item.dedupe_key,
                lane=None,
                topic="unreadable",
                sort_at=now,
                payload=item.payload,
                state=EventState.QUARANTINED,
                error=item.reason,
            )
            for item in sorted(poison, key=lambda one: one.dedupe_key)[
                :room
            ]  # in one order: no two wait for each other
        ]


def _own_messages(events: Sequence[Inbound], own: set[tuple[str | None, str | None, str | None]]) -> set[str]:
    """Return the dedupe keys of the messages that came through channel accounts of ours."""
    messages = (one for one in events if one.kind is Kind.MESSAGE)
    return {one.dedupe_key for one in messages if (one.portal_id, one.channel_id, one.account_id) in own}


def _marks(event: Inbound, known: Mapping[tuple[str, str], str]) -> set[str]:
    """Return by which keys the unknown thread of a message would be remembered, had it been erased."""
    if event.kind is not Kind.MESSAGE or (event.portal_id, event.thread_id) in known:
        return set()
    return erasing.marks_of(event.portal_id, event.thread_id, Told.from_json(event.payload))
