"""Look after events that wait: for their thread to be known, or for another event to make them needless."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..dispatch.tasks import CallingTask, Dead, Done, Outcome, Retry, Task, putting
from ..errors import NotConfigured
from ..hubspot.events import Kind
from ..ledger import Event, Lease, NewEvent, Topic, Transaction, lanes
from ..portals.clients import Services
from . import rules
from .inbound import InboundTask
from .states import Told, WaitingState

GAP_MS = 30_000
"""Milliseconds to wait for the channel event of a ``newMessage`` before the thread is read (docs/rules.rst B5)."""
PARK_MS = 120_000
"""Milliseconds that an event stays parked."""
SWEEP_MS = 1_000
"""Milliseconds between two looks at parked events."""


class GapTask(CallingTask):
    """Read the thread when a ``newMessage`` has no channel event after GAP_MS."""

    def __init__(self, services: Services, inbound: InboundTask) -> None:
        super().__init__(services.ledger)
        self._inbound = inbound

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Note whether the message has come meanwhile."""
        ids = [str(Told.from_json(event.payload).value)]
        event.state(WaitingState).is_over = bool(tx.records.known_hubspot_ids(str(event.handoff_id), ids))

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Read the thread, when it is time and the message has not come."""
        if event.state(WaitingState).is_over:
            return Done()
        if now < event.received_at + GAP_MS:
            return Retry("the channel's event may still come", at_ms=event.received_at + GAP_MS, is_planned=True)
        return Done(putting(self._inbound.history.missed(str(event.handoff_id), str(event.thread_id)), now))

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Give up: the next comparison of the handoff reads the thread."""
        return Dead(str(error))

    def refused(self, event: Event, error: Exception) -> Outcome:
        """Give up: the next comparison of the handoff reads the thread."""
        return Dead(str(error))


class UnparkTask(Task):
    """Move a portal's parked events to their threads' lanes once these are known, and drop them after two minutes."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self._settings = services.settings

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Move each parked event to its thread's lane when the thread is known; drop it after two minutes."""
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
        going = {
            rules.lane_of(one["topic"], (portal_id, one["thread_id"])) for each in threads.values() for one in each
        }
        tx.queue.reserve(*going, now=now)  # all at once: lanes are locked in one order
        for thread_id, waiting in threads.items():
            thread = portal_id, thread_id
            rules.unpark(tx, waiting, thread, known.get(thread), now=now)
        if noise:
            tx.drop_parked(noise)
        event.state(WaitingState).is_over = not left

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Come again as long as events are parked."""
        now = self._ledger.now_ms()
        if not event.state(WaitingState).is_over:
            return Retry("events are parked", at_ms=now + SWEEP_MS, is_planned=True)
        portal_id = str(event.portal_id)

        def effect(tx: Transaction) -> None:
            # Who has parked something since we looked saw this event still pending, and left it to us.
            if tx.parked(portal_id):
                watch_parked(tx, portal_id, now=now)

        return Done(effect)


def watch_parked(tx: Transaction, portal_id: str, *, now: int) -> None:
    """Start the timer for a portal's parked events; the caller holds the row of their lane."""
    lane, due_at = lanes.parked(portal_id), now + SWEEP_MS
    key = f"{lane}:{secrets.token_hex(8)}"
    watch = NewEvent(dedupe_key=key, lane=lane, topic=Topic.UNPARK, sort_at=now, portal_id=portal_id, due_at=due_at)
    tx.queue.put([watch], now=now)


def _account(parked: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return channel and channel account of a parked message; (None, None) for other events."""
    told = Told.from_json(parked["payload"])
    return told.channel_id, told.account_id
