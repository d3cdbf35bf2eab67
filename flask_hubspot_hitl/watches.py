"""Tasks that look after something when its time has come: gaps, parked events, an assignment that does not come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from . import handoffs
from .config import Settings
from .domain import HandoffState
from .emission import Emitter
from .errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from .hubspot.events import Kind
from .inbound import InboundTask
from .ledger import Event, Lease, Transaction
from .services import Services
from .tasks import Dead, Done, Outcome, Retry, outage, putting

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
            missed = self._inbound.missed_messages(event)
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
        mine = own_accounts(tx, self._settings, {_account(one) for one in parked})
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
        if not event.scratch.get("left"):
            return Done()
        return Retry("events are parked", at_ms=self._ledger.now_ms() + SWEEP_MS)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


class AssignmentTimeoutTask:
    """Nobody took the conversation in time."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Signalled once, and only while the handoff is still waiting for its first operator."""
        if "plan" not in event.progress:
            record = tx.records.get(str(event.handoff_id), lock=True)
            waits = record is not None and record.handoff.state == HandoffState.WAITING
            never = record is not None and record.assigned_mark is None
            event.progress["plan"] = (
                [handoffs.step("assignment_timed_out", record.handoff)] if record and waits and never else []
            )
            tx.queue.save(event)
        self._emitter.begin(tx, event)

    def run(self, event: Event, lease: Lease) -> Outcome:
        return self._emitter.run(event, lease)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""


def own_accounts(
    tx: Transaction, settings: Settings, accounts: Collection[tuple[str | None, str | None]]
) -> set[tuple[str | None, str | None, str | None]]:
    """The channel accounts that are ours, (portal, channel, account): the one configured, and those used before."""
    used = tx.records.own_accounts({account for _, account in accounts if account})
    return {*used, (settings.portal_id, settings.channel_id, settings.channel_account_id)}


def _account(parked: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Channel and channel account of a parked message; nothing for other events."""
    payload = parked["payload"] or {}
    message = payload.get("message") or {}
    channel, account = payload.get("channelId") or message.get("channelId"), message.get("channelAccountId")
    return (None if channel is None else str(channel)), (None if account is None else str(account))
