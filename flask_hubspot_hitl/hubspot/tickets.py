"""Call HubSpot about the tickets of a Help Desk's threads, and the notes on them.

Of ours it may import its neighbours here; no Flask, no database. What every method may raise is said in ``client``.
Source: docs/hubspot.rst (Notes and tickets; Notes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import HubSpotRejected
from . import fields
from .bodies import iso_time
from .staff import StaffCalls
from .text import escape_text, scrub

HELP_DESK = "HELP_DESK"
NOTE_TO_TICKET = 228
"""HubSpot's number for the association of a note with a ticket."""
NOTES_AT_ONCE = 100
"""Notes that are read in one call, at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """Hold where a thread is: its inbox, and its ticket; None where HubSpot tells none, or none yet."""

    inbox_id: str | None
    ticket_id: str | None


class TicketCalls(StaffCalls):
    """Call HubSpot about the tickets of threads."""

    def place_of(self, thread_id: str) -> Place:
        """Return a thread's inbox and ticket. A ticket comes later than its thread, and a plain inbox has none."""
        params = {"association": "TICKET"}
        found = self.call("GET", self.paths.thread(thread_id), doing="reading a thread's ticket", params=params)
        ticket = fields.mapping(found.get("threadAssociations")).get("associatedTicketId")
        return Place(fields.identifier(found.get("inboxId")), fields.identifier(ticket))

    def is_help_desk(self, inbox_id: str) -> bool:
        """Return True for a help desk: its threads have tickets, or will have one."""
        found = self.call("GET", self.paths.inbox(inbox_id), doing="reading an inbox")
        return fields.word(found.get("type")) == HELP_DESK

    def may_read_tickets(self) -> bool:
        """Return False when the scope for tickets is not granted."""
        try:
            self.call("GET", self.paths.tickets(), doing="listing tickets", params={"limit": 1})
        except HubSpotRejected as error:
            if error.category != "MISSING_SCOPES":
                raise
            return False
        return True

    def change_ticket(self, ticket_id: str, properties: Mapping[str, str]) -> None:
        """Set properties of a ticket (``SimplePublicObjectInput``), all of them or none; harmless when repeated.

        A 400 may be a rule of the portal's own.
        """
        path, body = self.paths.ticket(ticket_id), {"properties": dict(properties)}
        self.call("PATCH", path, doing="changing a ticket", body=body, answer=False)

    def add_ticket_note(self, ticket_id: str, text: str, *, title: str | None, at_ms: int) -> None:
        """Put a note on a ticket, which only agents see. Not idempotent: look for it with :meth:`has_ticket_note`.

        :param title: stands above the text, which is a block of its own then.
        :param at_ms: epoch ms of the note.
        """
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": NOTE_TO_TICKET}
        body = {
            "properties": {"hs_timestamp": iso_time(at_ms), "hs_note_body": note_html(text, title)},
            "associations": [{"to": {"id": ticket_id}, "types": [kind]}],
        }
        self.call("POST", self.paths.notes(), doing="adding a note to a ticket", body=body)

    def has_ticket_note(self, ticket_id: str, at_ms: int) -> bool:
        """Return True when a ticket has a note of this moment.

        The note is looked for by its ticket: search lags behind.

        :param at_ms: epoch ms, as given to :meth:`add_ticket_note`.
        """
        params = {"associations": "notes"}
        ticket = self.call("GET", self.paths.ticket(ticket_id), doing="reading a ticket", params=params)
        listed = fields.mapping(fields.mapping(ticket.get("associations")).get("notes")).get("results")
        ids = [one for item in fields.mappings(listed) if (one := fields.identifier(item.get("id")))]
        newest = sorted(ids, key=int, reverse=True)[:NOTES_AT_ONCE]
        if not newest:
            return False
        body: dict[str, Any] = {
            "inputs": [{"id": one} for one in newest],
            "properties": ["hs_timestamp"],
            "propertiesWithHistory": [],
        }
        told = self.call("POST", self.paths.notes_batch_read(), doing="reading notes", body=body, reads=True)
        found = (fields.mapping(one.get("properties")) for one in fields.mappings(told.get("results")))
        return any(fields.moment(one.get("hs_timestamp")) == at_ms for one in found)


def note_html(text: str, title: str | None = None) -> str:
    """Return a note as HTML that shows exactly its text.

    :param title: stands above the text, which is a block of its own then, to be copied.
    """
    rich = f"<p>{escape_text(scrub(text))}</p>"
    return rich if title is None else f"<p><strong>{escape_text(title)}</strong></p><blockquote>{rich}</blockquote>"
