"""Events that wait: for their thread to be known, or for another event to make them needless."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..dispatch.tasks import Dead, Done, Outcome, Retry, outage, putting
from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.events import Kind
from ..ledger import Event, Lease, NewEvent, Topic, Transaction, lanes
from ..portals.clients import Services
from . import rules
from .inbound import InboundTask

GAP_MS = 30_000
"""A ``newMessage`` whose channel event has not come after this long makes us read the thread."""
PARK_MS = 120_000
SWEEP_MS = 1_000


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
        mine = rules.own_accounts(tx, self._settings, {_account(one) for one in parked})
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
            rules.unpark(
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


def _account(parked: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Channel and channel account of a parked message; nothing for other events."""
    payload = parked["payload"] or {}
    message = payload.get("message") or {}
    channel, account = payload.get("channelId") or message.get("channelId"), message.get("channelAccountId")
    return (None if channel is None else str(channel)), (None if account is None else str(account))
