"""Tasks that look after something when its time has come: gaps, parked events, an assignment that does not come,
and what HubSpot has and we may have missed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from . import accounts, handoffs, portals
from .config import Settings
from .domain import HandoffState
from .emission import Emitter
from .errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from .hubspot.events import Kind
from .inbound import InboundTask
from .ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction, lanes
from .reconcile import History
from .services import Services
from .tasks import Again, Dead, Done, Outcome, Retry, outage, putting

logger = logging.getLogger(__name__)

GAP_MS = 30_000
"""A ``newMessage`` whose channel event has not come after this long makes us read the thread."""
PARK_MS = 120_000
SWEEP_MS = 1_000
HOUR_MS = 3_600_000
START_MS = 300_000
"""Dispatchers that start within the same span of this length make one sweep."""
DAY_MS = 86_400_000
LOOK_MS = 30_000
"""For this long the end of an assignment's time waits for HubSpot to be readable."""


class GapTask:
    """``conversation.newMessage`` whose channel event has not come: read the thread."""

    def __init__(self, services: Services, inbound: InboundTask) -> None:
        self._services = services
        self._ledger = services.ledger
        self._inbound = inbound

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Nothing to read when the message is known by now."""
        ids = [str((event.payload or {}).get("value"))]
        event.scratch["known"] = bool(tx.records.known_hubspot_ids(str(event.handoff_id), ids))

    def run(self, event: Event, lease: Lease) -> Outcome:
        now = self._ledger.now_ms()
        if event.scratch.get("known"):
            return Done()
        if now < event.received_at + GAP_MS:
            return Retry("the channel's event may still come", at_ms=event.received_at + GAP_MS)
        try:
            missed = self._inbound.history.missed(str(event.handoff_id), str(event.thread_id))
        except HubSpotUnavailable as error:
            return outage(error, now)
        except (HubSpotRejected, NotConfigured) as error:
            return Dead(str(error))
        return Done(putting(missed, now))

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


class UnparkTask:
    """Looks after a portal's parked events: of threads we may learn of while a handoff is starting."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Each goes to its lane when its thread is known, and away when two minutes have passed."""
        portal_id = str(event.portal_id)
        parked = tx.parked(portal_id)
        known = tx.records.handoffs_of_threads({(portal_id, one["thread_id"]) for one in parked})
        starting = bool(tx.records.starting_portals([portal_id]))
        mine = handoffs.own_accounts(tx, self._settings, {_account(one) for one in parked})
        noise: list[int] = []
        left = 0
        threads: dict[str, list[dict[str, Any]]] = {}
        for one in parked:
            over = not starting or one["received_at"] + PARK_MS <= now
            ours = one["topic"] == Kind.MESSAGE and (portal_id, *_account(one)) in mine
            if (portal_id, one["thread_id"]) in known or (over and ours):
                # A message to our own account goes on even without a handoff: the agent must learn its fate.
                threads.setdefault(one["thread_id"], []).append(one)
            elif over:
                noise.append(one["id"])
            else:
                left += 1
        for thread_id in sorted(threads):  # lanes are locked in one order
            handoffs.unpark(
                tx,
                threads[thread_id],
                portal_id=portal_id,
                thread_id=thread_id,
                handoff_id=known.get((portal_id, thread_id)),
                now=now,
            )
        if noise:
            tx.drop_parked(noise)
        event.scratch["left"] = left

    def run(self, event: Event, lease: Lease) -> Outcome:
        now = self._ledger.now_ms()
        if event.scratch.get("left"):
            return Retry("events are parked", at_ms=now + SWEEP_MS)
        portal_id = str(event.portal_id)

        def effect(tx: Transaction) -> None:
            # Who has parked something since we looked saw this event still pending, and left it to us.
            if tx.parked(portal_id):
                watch_parked(tx, portal_id, now=now)

        return Done(effect)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


def watch_parked(tx: Transaction, portal_id: str, *, now: int) -> None:
    """Have a portal's parked events looked after until none is left; the caller holds the row of their lane."""
    lane = lanes.parked(portal_id)
    watch = NewEvent(
        dedupe_key=f"{lane}:{secrets.token_hex(8)}",
        lane=lane,
        topic=Topic.UNPARK,
        sort_at=now,
        portal_id=portal_id,
        due_at=now + SWEEP_MS,
    )
    tx.queue.put([watch], now=now)


class AssignmentTimeoutTask:
    """Nobody took the conversation in time."""

    def __init__(self, emitter: Emitter, services: Services, history: History) -> None:
        self._emitter = emitter
        self._ledger = services.ledger
        self._history = history

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Signalled once, and only while the handoff is still waiting for its first operator."""
        if "plan" not in event.progress:
            record = tx.records.get(str(event.handoff_id), lock=True)
            waits = record is not None and record.handoff.state == HandoffState.WAITING
            never = record is not None and record.assigned_mark is None and not event.progress.get("taken")
            if record and waits and never and "taken" not in event.progress:
                event.scratch["record"] = record
                return
            event.progress["plan"] = (
                [handoffs.step("assignment_timed_out", record.handoff)] if record and waits and never else []
            )
            tx.queue.save(event)
        self._emitter.begin(tx, event)

    def run(self, event: Event, lease: Lease) -> Outcome:
        return self._emitter.run(event, lease) if "plan" in event.progress else self._look(event)

    def _look(self, event: Event) -> Outcome:
        """Somebody may have taken it while we were down: ask HubSpot before saying that nobody did."""
        now = self._ledger.now_ms()
        since = event.progress.setdefault("waiting_since", now)
        missed: list[NewEvent] = []
        try:
            missed = self._history.of_handoff(event.scratch["record"])
        except HubSpotUnavailable as error:
            if now - since < LOOK_MS:
                return Retry(str(error), at_ms=min(now + 5_000, since + LOOK_MS))
        except (HubSpotRejected, NotConfigured):
            logger.info("The thread of a handoff that nobody took can't be read (event %d)", event.id)
        event.progress["taken"] = any(one.topic == Kind.ASSIGNED and one.payload["value"] for one in missed)
        return Again(putting(missed, now))

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


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
        if now < event.received_at + portals.RESUME_MS:
            return Retry("until everything old has ended", at_ms=event.received_at + portals.RESUME_MS)
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


def _account(parked: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Channel and channel account of a parked message; nothing for other events."""
    payload = parked["payload"] or {}
    message = payload.get("message") or {}
    channel, account = payload.get("channelId") or message.get("channelId"), message.get("channelAccountId")
    return (None if channel is None else str(channel)), (None if account is None else str(account))
