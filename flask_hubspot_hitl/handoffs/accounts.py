"""Read a portal's accounts of our channel, and bring the stored ones up to date.

A webhook about a channel account is a hint, no more: HubSpot's workflows sign what an admin of any portal types. So
nothing in it is believed but that it is time to look; the accounts are read with the portal's own token.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from ..dispatch.tasks import CallingTask, Done, Outcome, Retry
from ..errors import HubSpotNotFound, NotConfigured, WrongPortal
from ..hubspot.setup.wanted import mark_of_account
from ..ledger import AccountRecord, Event, HandoffRecord, Lease, NewEvent, Topic, Transaction, lanes
from ..portals import installations, routing
from ..portals.accounts import Look, look_later, record_of
from ..portals.clients import Services

logger = logging.getLogger(__name__)


LAST_MS = 86_400_000
"""Milliseconds added to the sort time of a handoff's end, so that it comes after everything in the lane whatever
HubSpot's clock says.
"""
ANOTHER_PORTALS = (
    "The token of portal %s belongs to another portal; its channel accounts are left as they are. Connect the portal "
    "again with 'flask hubspot-hitl install-url'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Hold a portal's accounts: as they were stored before the look, as HubSpot has them, and which it has no more."""

    channel_id: str
    stored: list[AccountRecord]
    there: list[AccountRecord]
    gone: list[str]


class AccountsTask(CallingTask):
    """Read a portal's accounts of our channel, and bring the stored ones up to date."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.ledger)
        self._services = services

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Read the accounts; the outcome's effect stores them."""
        portal_id, after = str(event.portal_id), Look.from_json(event.payload).after_ms
        if now < event.received_at + after:
            return Retry("it is not time to look yet", at_ms=event.received_at + after, is_planned=True)
        seen = self._look(portal_id)
        if seen is None:
            return Done()

        def effect(tx: Transaction) -> None:
            if tx.channels.accounts(portal_id) == seen.stored:
                self._make_so(tx, portal_id, seen)
            else:  # somebody else has written what they saw, and who saw it last is not known
                look_later(tx, portal_id, after, now=self._ledger.now_ms())

        return Done(effect)

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Leave the accounts alone when the token is another portal's; else ask a few times more."""
        if isinstance(error, WrongPortal):
            logger.error(ANOTHER_PORTALS, event.portal_id)
            return Done()
        return self.refused(event, error)

    def _look(self, portal_id: str) -> _Seen | None:
        """Return what HubSpot has now; None when it can't be known."""
        settings = self._services.settings
        with self._ledger.read() as tx:
            channel_id = routing.channel_of(tx, settings)
            if channel_id is None:
                return None
            stored = tx.channels.accounts(portal_id)
            used = {one.account_id for one in tx.records.open_with(portal_id, channel_id)}
        if portal_id == settings.portal_id:
            used.add(settings.channel_account_id)
        known = {one for one in used if one} | {one.account_id for one in stored if one.channel_id == channel_id}
        client = self._services.client(portal_id)
        there = {str(one.get("id")): one for one in client.channel_accounts(channel_id)}
        for account_id in sorted(known - there.keys()):
            with contextlib.suppress(HubSpotNotFound):  # what a list leaves out may still be there
                there[account_id] = client.channel_account(channel_id, account_id)
        found = {key: record_of(portal_id, one) for key, one in there.items() if one.get("archived") is not True}
        gone = sorted(known - found.keys())
        # To another portal's token every account is "not found", and the one in the settings may be another portal's.
        if gone and str(client.account_info().get("portalId")) != portal_id:
            logger.error(ANOTHER_PORTALS, portal_id)
            return None
        return _Seen(channel_id=channel_id, stored=stored, there=list(found.values()), gone=gone)

    def _make_so(self, tx: Transaction, portal_id: str, seen: _Seen) -> None:
        now = self._ledger.now_ms()
        before = {one.account_id: one for one in seen.stored}
        for record in seen.there:
            known = before.get(record.account_id)
            is_ours = mark_of_account({"deliveryIdentifier": record.identifier}) == self._ledger.deployment_id
            if known != record and (known is not None or (is_ours and record.authorized)):
                tx.channels.save_account(record, now=now)
                _tell(tx, record, "created" if known is None else "updated", now=now)
        for account_id in seen.gone:
            tx.channels.forget_account(portal_id, account_id)
            nothing = AccountRecord(portal_id=portal_id, account_id=account_id, channel_id=seen.channel_id, inbox_id="")
            _tell(
                tx, before.get(account_id, nothing), "removed", now=now, key=f"account-removed:{portal_id}:{account_id}"
            )
        orphans = [one for one in tx.records.open_with(portal_id, seen.channel_id) if one.account_id in seen.gone]
        # One that is still starting finds out by itself: its first message can't be published.
        tx.queue.put([_removed(one, now=now) for one in orphans if one.handoff.thread_id is not None], now=now)


def _tell(tx: Transaction, record: AccountRecord, change: str, *, now: int, key: str | None = None) -> None:
    account = {name: getattr(record, name) for name in ("account_id", "channel_id", "inbox_id", "name", "authorized")}
    installations.put_signal(
        tx, "channel_account_changed", record.portal_id, now=now, key=key, change=change, account=account
    )


def _removed(record: HandoffRecord, *, now: int) -> NewEvent:
    """Return the event that ends a handoff whose account is gone, behind what agents have written before."""
    handoff, topic = record.handoff, Topic.ACCOUNT_REMOVED
    key, lane = f"{topic}:{handoff.id}", lanes.signals(handoff)
    return NewEvent(dedupe_key=key, lane=lane, topic=topic, sort_at=now + LAST_MS, handoff=handoff)
