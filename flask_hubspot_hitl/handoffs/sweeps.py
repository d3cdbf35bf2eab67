"""Tasks that compare handoffs with HubSpot: at start, every hour, and when a portal is connected again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..config import Settings
from ..dispatch.tasks import Done, Outcome, Retry, outage, putting
from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction, lanes
from ..portals import accounts, installations
from ..portals.clients import Services
from .history import History

logger = logging.getLogger(__name__)


HOUR_MS = 3_600_000
START_MS = 300_000
"""Dispatchers that start within the same span of this length make one sweep."""
DAY_MS = 86_400_000


class SweepTask:
    """Has every handoff compared with HubSpot that may have missed something: at start, and every hour."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def put_start(self) -> None:
        """A dispatcher starts here; see :data:`START_MS`.

        :raises LedgerUnavailable: when it can't be stored.
        """
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            tx.queue.put([_sweep("start", now // START_MS, now)], now=now)

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Everything happens in the effect."""

    def run(self, event: Event, lease: Lease) -> Outcome:
        now = self._ledger.now_ms()
        hour = now // HOUR_MS
        at_start = (event.payload or {}).get("at_start")
        key = f"start:{now // START_MS}" if at_start else str(hour)
        with self._ledger.read() as tx:
            found = tx.records.to_reconcile(closed_since=closed_since(self._settings, now) if at_start else None)

        def effect(tx: Transaction) -> None:
            # The hourly lane before the handoffs': everybody locks in this order.
            if at_start and not tx.queue.has_pending(lanes.sweep("hourly")):
                tx.queue.put([_sweep("hourly", hour, now + HOUR_MS)], now=now)
            if not at_start:  # nor may the webhook that says that our channel has left an inbox have come
                for portal_id in sorted({one.handoff.portal_id for one in found}):
                    accounts.look_at(tx, portal_id, now=now)
            tx.queue.put(reconcile_events(tx, found, key=key, now=now), now=now)

        # What is put into a lane that is being run would be run at once: the hourly event goes on and on instead.
        return Done(effect) if at_start else Retry("until the next hour", at_ms=now + HOUR_MS, effect=effect)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """The next dispatcher that starts has its own."""


class ReconcileTask:
    """Compares one handoff with its thread, and feeds what was missed."""

    def __init__(self, services: Services, history: History) -> None:
        self._ledger = services.ledger
        self._history = history

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        event.scratch["record"] = tx.records.get(str(event.handoff_id))

    def run(self, event: Event, lease: Lease) -> Outcome:
        now = self._ledger.now_ms()
        record = event.scratch["record"]
        if record is None:
            return Done()
        try:
            missed = self._history.of_handoff(record)
        except HubSpotUnavailable as error:
            return outage(error, now)
        except (HubSpotRejected, NotConfigured) as error:
            logger.warning("Handoff %s can't be compared with HubSpot: %s", event.handoff_id, error)
            return Done()
        return Done(putting(missed, now))

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


class ResumeTask:
    """A portal is connected again: what failed while that happened is tried again, and what HubSpot could not tell us
    meanwhile is read.
    """

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Everything happens in the effect."""

    def run(self, event: Event, lease: Lease) -> Outcome:
        now = self._ledger.now_ms()
        if now < event.received_at + installations.RESUME_MS:
            return Retry("until everything old has ended", at_ms=event.received_at + installations.RESUME_MS)
        portal_id = str(event.portal_id)
        with self._ledger.read() as tx:
            found = tx.records.to_reconcile(closed_since=closed_since(self._settings, now), portal_id=portal_id)

        def effect(tx: Transaction) -> None:
            accounts.look_at(tx, portal_id, now=now)
            tx.queue.put(reconcile_events(tx, found, key=f"{Topic.RESUME}:{event.id}", now=now), now=now)
            tx.installations.wake(portal_id, now=now)

        return Done(effect)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


def reconcile_events(tx: Transaction, found: Sequence[HandoffRecord], *, key: str, now: int) -> list[NewEvent]:
    """Have handoffs compared with HubSpot that are not waiting for it already; the same ``key`` twice is once."""
    placed = [(one.handoff, lanes.reconcile(one.handoff.id)) for one in found]
    return [
        NewEvent(
            dedupe_key=f"{lane}:{key}",
            lane=lane,
            topic=Topic.RECONCILE,
            sort_at=now,
            portal_id=handoff.portal_id,
            thread_id=handoff.thread_id,
            handoff_id=handoff.id,
        )
        for handoff, lane in placed
        if not tx.queue.has_pending(lane)
    ]


def closed_since(settings: Settings, now: int) -> int:
    """Handoffs closed since then may still be reopened; of more than a day nothing is looked up."""
    return now - min(int(settings.reopen_window * 1000), DAY_MS)


def _sweep(name: str, span: int, due_at: int) -> NewEvent:
    """The two have lanes of their own: one that waits for its hour would hold a start back."""
    lane = lanes.sweep(name)
    return NewEvent(
        dedupe_key=f"{lane}:{span}",
        lane=lane,
        topic=Topic.SWEEP,
        sort_at=due_at,
        payload={"at_start": name == "start"},
        due_at=due_at,
    )
