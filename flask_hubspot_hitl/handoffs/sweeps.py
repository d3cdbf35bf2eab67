"""Look back for what no webhook brought: at start, every hour, and when a portal is connected again.

A sweep has each portal looked at by HubSpot's lists (``looking_back``); that queues a comparison for every handoff
whose thread has moved. Besides, each handoff's whole thread is read once a day (docs/rules.rst G3).
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..dispatch.tasks import CallingTask, Done, Outcome, Retry, Task, outage
from ..errors import HubSpotUnavailable, NotConfigured
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction, lanes
from ..portals import accounts, installations
from ..portals.clients import Services
from .looking_back import DAY_MS, LookingBack, Suspect, closed_since
from .states import CompareState, LookBackState, ToCompare, ToLookBack, ToSweep

logger = logging.getLogger(__name__)


HOUR_MS = 3_600_000
START_MS = 300_000
"""Milliseconds: dispatchers that start within the same interval of this length share one sweep."""
HOURS = 24
"""Each handoff has one of these hours of the day, in which its whole thread is read."""
HOURS_AT_ONCE = 2
"""How many such hours are made up for in one, after a time when no dispatcher ran."""


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
        """Queue a look at every portal with handoffs, and every hour the readings of that hour."""
        now = self._ledger.now_ms()
        hour = now // HOUR_MS
        at_start = ToSweep.from_json(event.payload).at_start
        key = f"start:{now // START_MS}" if at_start else str(hour)
        with self._ledger.read() as tx:
            found = tx.records.to_reconcile(closed_since=closed_since(self._settings, now))
            proved = (tx.once.get(_PROVED, now=now) or {}).get("hour", hour - 1)
        portals = sorted({one.handoff.portal_id for one in found})
        first = max(proved, hour - HOURS) + 1
        last = min(hour, first + HOURS_AT_ONCE - 1)

        def effect(tx: Transaction) -> None:
            # The hourly lane before the portals', those before the handoffs': everybody locks in this order.
            if at_start and not tx.queue.has_pending(lanes.sweep("hourly")):
                tx.queue.put([_sweep("hourly", hour, now + HOUR_MS)], now=now)
            if not at_start:  # nor may the webhook that says that our channel has left an inbox have come
                for portal_id in portals:
                    accounts.look_at(tx, portal_id, now=now)
            tx.queue.put(list(look_back_events(tx, portals, key=key, thorough=at_start, now=now)), now=now)
            if not at_start:
                proofs = [one for one in found if first <= _next_hour(one, first) <= last]
                tx.queue.put(list(_proof_events(proofs, hour=hour, now=now)), now=now)
                tx.once.put(_PROVED, {"hour": last}, expires_at=now + 2 * DAY_MS)

        # What is put into a lane that is being run would be run at once: the hourly event goes on and on instead.
        return (
            Done(effect)
            if at_start
            else Retry("until the next hour", at_ms=now + HOUR_MS, effect=effect, is_planned=True)
        )


class _Looking(CallingTask):
    """Look at HubSpot; where that is refused, or there is no token, all is left as it is until the next hour."""

    words: str
    """The line for the log, of what can't be looked at and why."""

    def __init__(self, services: Services, looking_back: LookingBack) -> None:
        super().__init__(services.ledger)
        self._looking_back = looking_back

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Do the same as when HubSpot refuses."""
        return self.refused(event, error)

    def refused(self, event: Event, error: Exception) -> Outcome:
        """Warn, and go on."""
        logger.warning(self.words, event.handoff_id or event.portal_id, error)
        return Done()


class LookBackTask(_Looking):
    """Find the handoffs of a portal whose threads have moved, and queue their comparison."""

    words = "Portal %s can't be looked at (%s); its handoffs are left as they are until the next hour"

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Read HubSpot's lists; when there is no budget for more, what was found is compared before it goes on."""
        thorough = ToLookBack.from_json(event.payload).thorough
        found: list[Suspect] = []

        def effect(tx: Transaction) -> None:
            tx.queue.put(list(_compare_events(tx, found, key=str(event.id), now=now)), now=now)

        try:
            so_far = event.state(LookBackState)
            for one in self._looking_back.at_portal(str(event.portal_id), thorough=thorough, so_far=so_far):
                found.append(one)
        except HubSpotUnavailable as error:
            return replace(outage(error, self._ledger.now_ms()), effect=effect)
        return Done(effect)


class ReconcileTask(_Looking):
    """Compare one handoff with its thread, and queue what no webhook brought."""

    words = "Handoff %s can't be compared with HubSpot (%s); it is left as it is until the next hourly comparison"

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Read the handoff."""
        event.state(CompareState).record = tx.records.get(str(event.handoff_id))

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Read the thread."""
        record = event.state(CompareState).record
        if record is None:
            return Done()
        compared = self._looking_back.compare(record, ToCompare.from_json(event.payload))

        def effect(tx: Transaction) -> None:
            self._looking_back.settle(tx, record, compared, now=now)

        return Done(effect)


class ResumeTask(Task):
    """Resume a portal that was connected again: retry its outbound lanes, and read its open threads."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Resume the portal, once every call with the old token has ended."""
        now = self._ledger.now_ms()
        if now < event.received_at + installations.RESUME_MS:
            return Retry(
                "until everything old has ended", at_ms=event.received_at + installations.RESUME_MS, is_planned=True
            )
        portal_id = str(event.portal_id)

        def effect(tx: Transaction) -> None:
            accounts.look_at(tx, portal_id, now=now)
            look = look_back_events(tx, [portal_id], key=f"{Topic.RESUME}:{event.id}", thorough=True, now=now)
            tx.queue.put(list(look), now=now)
            tx.installations.wake(portal_id, now=now)

        return Done(effect)


_PROVED = "proved"
"""Where the newest hour is stored whose readings are queued."""


def look_back_events(
    tx: Transaction, portals: Sequence[str], *, key: str, thorough: bool, now: int
) -> Iterator[NewEvent]:
    """Return the events that have portals looked at; a ``key`` makes repetitions one.

    A thorough look is wanted also while one waits that is not.
    """
    told = ToLookBack(thorough).to_json()
    for portal_id in portals:
        lane = lanes.look_back(portal_id)
        if thorough or not tx.queue.has_pending(lane):
            yield NewEvent(
                dedupe_key=f"{lane}:{key}",
                lane=lane,
                topic=Topic.LOOK_BACK,
                sort_at=now,
                portal_id=portal_id,
                payload=told,
            )


def _compare_events(tx: Transaction, found: Sequence[Suspect], *, key: str, now: int) -> Iterator[NewEvent]:
    for one in found:
        handoff, told = one.record.handoff, one.how.to_json()
        lane = lanes.reconcile(handoff.id)
        if not tx.queue.has_pending(lane):
            yield NewEvent(
                dedupe_key=f"{lane}:{key}",
                lane=lane,
                topic=Topic.RECONCILE,
                sort_at=now,
                handoff=handoff,
                payload=told,
            )


def _next_hour(record: HandoffRecord, first: int) -> int:
    """Return the hour, since the epoch, in which a handoff's thread is read, not before ``first``."""
    return first + (zlib.crc32(record.handoff.id.encode()) - first) % HOURS


def _proof_events(found: Sequence[HandoffRecord], *, hour: int, now: int) -> Iterator[NewEvent]:
    """Return the events that read whole threads, one after the other over an hour."""
    for number, one in enumerate(found):
        lane, at = lanes.proof(one.handoff.id), now + HOUR_MS * number // len(found)
        yield NewEvent(
            dedupe_key=f"{lane}:{hour}",
            lane=lane,
            topic=Topic.RECONCILE,
            sort_at=at,
            due_at=at,
            handoff=one.handoff,
        )


def _sweep(name: str, span: int, due_at: int) -> NewEvent:
    """Return the event of a sweep. Start and hourly sweeps have separate lanes, so that neither delays the other."""
    lane, told = lanes.sweep(name), ToSweep(at_start=name == "start").to_json()
    key = f"{lane}:{span}"
    return NewEvent(dedupe_key=key, lane=lane, topic=Topic.SWEEP, sort_at=due_at, due_at=due_at, payload=told)
