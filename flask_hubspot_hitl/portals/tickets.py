"""Tell whether notes may be on tickets: by the setting, the granted scopes, the inbox, and HubSpot's last answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..config import PREFIX, Settings
from ..errors import HubSpotRejected
from ..hubspot.client import HubSpotClient
from ..hubspot.scopes import TICKET_NOTES_SCOPES, lacking
from ..ledger import Ledger

logger = logging.getLogger(__name__)

LEFT_ALONE_MS = 3_600_000
"""Milliseconds during which a portal that refused the scope is not tried again."""


class TicketNotes:
    """Know, for one app in one process, where a note can be on the conversation's ticket."""

    def __init__(self, settings: Settings, ledger: Ledger, client: Callable[[str], HubSpotClient]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._help_desks: dict[tuple[str, str], bool] = {}
        self._refused: dict[str, int] = {}
        self._said: set[str] = set()

    def is_help_desk(self, portal_id: str, inbox_id: str) -> bool:
        """Return True when an inbox is a help desk, whose threads have tickets; HubSpot is asked once a process."""
        inbox = portal_id, inbox_id
        known = self._help_desks.get(inbox)
        if known is None:
            try:
                known = self._help_desks[inbox] = self._client(portal_id).is_help_desk(inbox_id)
            except HubSpotRejected:
                return False
        return known

    def may_be(self, portal_id: str, inbox_id: str | None) -> bool:
        """Return True when notes of an inbox may be on tickets.

        :param inbox_id: None when it is not known: what HubSpot says of the thread decides.
        """
        if self._settings.notes_in == "comment" or self._ledger.now_ms() < self._refused.get(portal_id, 0):
            return False
        if inbox_id is not None and not self.is_help_desk(portal_id, inbox_id):
            return False
        with self._ledger.read() as tx:
            found = tx.installations.get(portal_id)
        missing = () if found is None or found.scopes is None else lacking(TICKET_NOTES_SCOPES, found.scopes)
        if missing:
            self._say(portal_id, f"{', '.join(missing)} not granted")
        return not missing

    def refused(self, portal_id: str, error: HubSpotRejected, now: int) -> None:
        """Note that HubSpot takes no note on a ticket; a portal without the scopes is left alone for an hour.

        :param now: epoch ms.
        """
        if error.category == "MISSING_SCOPES":
            self._refused[portal_id] = now + LEFT_ALONE_MS
        self._say(portal_id, str(error))

    def _say(self, portal_id: str, why: str) -> None:
        if portal_id not in self._said:
            self._said.add(portal_id)
            logger.warning(
                "Notes are not on the tickets of portal %s, but comments on its threads, which HubSpot is replacing in "
                "help desks (%s). Set %sNOTES_IN to both, give the app the scopes %s (a project app: by 'flask "
                "hubspot-hitl project init' and 'hs project upload'), restart, and install it again; or set "
                "%sNOTES_IN to comment",
                portal_id,
                why,
                PREFIX,
                ", ".join(TICKET_NOTES_SCOPES),
                PREFIX,
            )
