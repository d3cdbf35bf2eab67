"""Check whether HubSpot lets us reach the tickets of help desks, where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator

from ...config import Settings
from ...hubspot.client import HubSpotClient
from ...hubspot.scopes import TICKETS_SCOPE
from .findings import Code

SCOPES = (TICKETS_SCOPE,)
"""Scopes whose lack keeps nothing from working but this."""


def check(settings: Settings, client: HubSpotClient, *, has_help_desk: bool) -> Iterator[tuple[Code, str]]:
    """Ask HubSpot for a ticket.

    :param has_help_desk: whether one of the inboxes in use is a help desk: notes are to be on tickets there, unless the
        settings say otherwise.
    """
    notes = settings.notes_in in ("ticket", "both") or (settings.notes_in is None and has_help_desk)
    if (settings.tickets or notes) and not client.may_read_tickets():
        yield Code.NO_TICKETS, f"Not granted: {TICKETS_SCOPE}."
