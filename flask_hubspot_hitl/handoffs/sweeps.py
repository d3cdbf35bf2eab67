"""Compare handoffs with HubSpot: at start, every hour, and when a portal is connected again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..config import Settings
from ..dispatch.tasks import CallingTask, Done, Outcome, Retry, Task, putting
from ..errors import NotConfigured
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction, lanes
from ..portals import accounts, installations
from ..portals.clients import Services
from .history import History
from .states import CompareState, ToSweep

logger = logging.getLogger(__name__)


HOUR_MS = 3_600_000
START_MS = 300_000
"""Milliseconds: dispatchers that start within the same interval of this length share one sweep."""
DAY_MS = 86_400_000


class SweepTask(Task):
    """Queue a comparison with HubSpot for every handoff that may have missed events: at start, and every hour.

    A sweep that is given up needs nobody told: the next start or hour queues another one.
    """

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def put_start(self) -> None:
        """Queue the sweep of a dispatcher's start; one for all that start within :data:`START_MS`.

        :raises LedgerUnavailable: when it can't be stored.
        """
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            tx.queue.put([_sweep("start", now // START_MS, now)], now=now)

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Queue the comparisons."""
        now = self._ledger.now_ms()
        hour = now // HOUR_MS
        at_start = ToSweep.from_json(event.payload).at_start
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


class ReconcileTask(CallingTask):
    """Compare one handoff with its thread, and queue what no webhook brought."""

    def __init__(self, services: Services, history: History) -> None:
        super().__init__(services.ledger)
        self._history = history

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Read the handoff."""
        event.state(CompareState).record = tx.records.get(str(event.handoff_id))

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Read the thread."""
        record = event.state(CompareState).record
        return Done() if record is None else Done(putting(self._history.of_handoff(record), now))

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Leave the handoff as it is; see :meth:`refused`."""
        return self.refused(event, error)

    def refused(self, event: Event, error: Exception) -> Outcome:
        """Leave the handoff as it is until the next hour."""
        logger.warning(
            "Handoff %s can't be compared with HubSpot (%s); it is left as it is until the next hourly comparison",
            event.handoff_id,
            error,
        )
        return Done()


class ResumeTask(Task):
    """Resume a portal that was connected again: retry its outbound lanes, and read its open threads."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Resume the portal, once every call with the old token has ended."""
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


def reconcile_events(tx: Transaction, found: Sequence[HandoffRecord], *, key: str, now: int) -> list[NewEvent]:
    """Return the events that compare these handoffs with HubSpot; a ``key`` makes repetitions one."""
    placed = [(one.handoff, lanes.reconcile(one.handoff.id)) for one in found]
    return [
        NewEvent(dedupe_key=f"{lane}:{key}", lane=lane, topic=Topic.RECONCILE, sort_at=now, handoff=handoff)
        for handoff, lane in placed
        if not tx.queue.has_pending(lane)
    ]


def closed_since(settings: Settings, now: int) -> int:
    """Return the epoch ms since when closed handoffs are compared: REOPEN_WINDOW, at most a day."""
    return now - min(int(settings.reopen_window * 1000), DAY_MS)


def _sweep(name: str, span: int, due_at: int) -> NewEvent:
    """Return the event of a sweep. Start and hourly sweeps have separate lanes, so that neither delays the other."""
    lane, told = lanes.sweep(name), ToSweep(at_start=name == "start").to_json()
    key = f"{lane}:{span}"
    return NewEvent(dedupe_key=key, lane=lane, topic=Topic.SWEEP, sort_at=due_at, due_at=due_at, payload=told)
