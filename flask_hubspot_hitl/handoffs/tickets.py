"""Change the ticket of a Help Desk's thread as the host asked, and put notes on it (docs/rules.rst L2, L3).

A ticket comes later than its thread. These tasks wait for it in a lane of their own, and hold no message back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from ..config import PREFIX, Settings
from ..dispatch.tasks import Done, Outcome, Retry
from ..errors import HubSpotRejected, NotConfigured
from ..hubspot.client import HubSpotClient
from ..hubspot.text import scrub
from ..ledger import Event, HandoffRecord, Transaction
from . import rules, steps
from .outbound import OutboundTask
from .states import RATING, OutboundState, ToChangeTicket, ToNote

logger = logging.getLogger(__name__)

WAIT_MS = 600_000
"""Milliseconds that a help desk's thread is waited for to have its ticket."""
PAUSES_MS = (1_000, 60_000)
"""The shortest and the longest pause between two looks; each is about as long as all before."""
MOST_PROPERTIES = 50
VALUE_LIMIT = 5_000
"""Characters, at most, of a property's value."""
NO_TICKET = "the conversation has no ticket: its inbox is no help desk, or HubSpot made none within ten minutes"


def check_ticket(settings: Settings, ticket: Mapping[str, Any] | None) -> dict[str, str]:
    """Return a ticket's properties as HubSpot takes them, before anything is stored.

    :raises NotConfigured: there are some, and changing tickets is not switched on.
    :raises TypeError: it is no mapping, or a value is no text, number, True or False.
    :raises ValueError: a name is none of HubSpot's, a value is too long, or there are too many.
    """
    if not isinstance(ticket, Mapping | None):
        raise TypeError(f"ticket must be a mapping, not {type(ticket).__name__}")
    if not ticket:
        return {}
    if not settings.tickets:
        raise NotConfigured(
            f"start(ticket=…) changes tickets: set {PREFIX}TICKETS = True and install the app again, for the scope "
            "'tickets'"
        )
    if len(ticket) > MOST_PROPERTIES:
        raise ValueError(f"ticket may have {MOST_PROPERTIES} properties at most")
    return {_name(name): _value(value) for name, value in ticket.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]{1,100}", name):
        raise ValueError("ticket needs HubSpot's internal names of properties, such as hs_ticket_priority")
    return name


def _value(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError(f"a ticket's property must be text, a number, True or False, not {type(value).__name__}")
    text = str(value).lower() if isinstance(value, bool) else scrub(str(value))
    if len(text) > VALUE_LIMIT:
        raise ValueError(f"a ticket's property may have {VALUE_LIMIT} characters at most")
    return text


class OnTicket(OutboundTask):
    """Do something with a thread's ticket, once it is there."""

    def _ticket(self, event: Event, client: HubSpotClient, record: HandoffRecord, now: int) -> str | Retry:
        """Return the ticket's id, or when to look for it again.

        :raises HubSpotRejected: there is none, and none is to come.
        """
        place = client.place_of(str(record.handoff.thread_id))
        if place.ticket_id is not None:
            return place.ticket_id
        waited, inbox_id = now - event.received_at, place.inbox_id
        is_help_desk = self._services.ticket_notes.is_help_desk
        if waited < WAIT_MS and inbox_id is not None and is_help_desk(record.handoff.portal_id, inbox_id):
            least, most = PAUSES_MS
            return Retry(
                "the conversation's ticket is not there yet", at_ms=now + min(most, max(least, waited)), is_planned=True
            )
        raise HubSpotRejected(NO_TICKET)


class TicketTask(OnTicket):
    """Set the properties that ``start`` was given. What HubSpot refuses becomes a note and ``ticket_refused``."""

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record, properties = state.record, ToChangeTicket.from_json(event.payload).properties
        if record is None or record.handoff.thread_id is None:
            return Done()
        try:
            ticket = self._ticket(event, client, record, now)
            if isinstance(ticket, Retry):
                return ticket
            client.change_ticket(ticket, properties)
        except HubSpotRejected as error:
            why = str(error)
            logger.warning(
                "HubSpot did not change the ticket of handoff %s as the host asked (%s). A rule of the portal's own "
                "may be the reason; the agents have a note",
                record.handoff.id,
                ", ".join(sorted(properties)),
            )
            return Done(lambda tx: self._told(tx, record, properties, why, now))
        return Done()

    def _told(self, tx: Transaction, record: HandoffRecord, properties: Mapping[str, str], why: str, now: int) -> None:
        facts = {"properties": dict(properties), "error": why}
        steps.put_signals(tx, record.handoff, [steps.step("ticket_refused", record.handoff, facts=facts)], now=now)
        lines = [f"{name}: {value}" for name, value in properties.items()]
        text = "\n".join(["The ticket should have had, and HubSpot refused it:", *lines])
        rules.put_note(tx, record.handoff, text, about="ticket", now=now)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Tell the host that the ticket is as it was."""
        record = tx.records.get(str(event.handoff_id))
        if record is not None:
            self._told(tx, record, ToChangeTicket.from_json(event.payload).properties, error, now)


class TicketNoteTask(OnTicket):
    """Put a note on the ticket; where that can't be, and no comment stands on the thread, it becomes one."""

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record, told = state.record, ToNote.from_json(event.payload)
        if record is None or record.handoff.thread_id is None:
            return Done()
        if not (record.handoff.is_open or told.about == RATING):
            return Done()
        at_ms = event.received_at // 1_000 * 1_000 + event.id % 1_000  # no two notes of a handoff have the same
        try:
            ticket = self._ticket(event, client, record, now)
            if isinstance(ticket, Retry):
                return ticket
            if not (state.is_unsure and client.has_ticket_note(ticket, at_ms)):
                client.add_ticket_note(ticket, told.text, title=told.title, at_ms=at_ms)
        except HubSpotRejected as error:
            self._services.ticket_notes.refused(record.handoff.portal_id, error, now)
            if told.instead:
                return Done(lambda tx: rules.put_comment(tx, record.handoff, told, once=str(event.id), now=now))
        return Done()
