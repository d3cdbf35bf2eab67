"""Say whether a live agent is there, and refuse a handoff that is to be for one who is."""

from __future__ import annotations

from ..config import PREFIX
from ..domain import Availability, AvailabilityReason
from ..errors import NobodyAvailable
from ..portals import routing
from ..portals.clients import Services
from .rules import Opening

WHY = {
    AvailabilityReason.AWAY: "all agents who work now are away",
    AvailabilityReason.CLOSED: "it is nobody's working time",
}


def availability(services: Services, inbox_id: str | None = None, portal_id: str | None = None) -> Availability:
    """Do :meth:`HubSpotHITL.availability` for one app."""
    settings = services.settings
    if settings.availability == "hours":
        return services.attendance.read("", None)
    with services.ledger.read() as tx:
        portal = routing.default_portal(tx, settings) if portal_id is None else str(portal_id)
        inbox = routing.default_inbox(tx, settings, portal) if inbox_id is None else str(inbox_id)
    return services.attendance.read(portal, inbox)


def require(services: Services, opening: Opening) -> None:
    """Ask HubSpot, right before a handoff begins, whether anybody is there for it; go on when that is not known.

    A conversation that has an open handoff keeps it, whoever is there.

    :raises NobodyAvailable: when nobody is; nothing is stored.
    """
    handoff = opening.handoff
    with services.ledger.read() as tx:
        if tx.records.open_of(handoff.conversation_id) is not None:
            return
    found = services.attendance.read(handoff.portal_id, handoff.inbox_id, fresh=True)
    if found.open is not False:
        return
    until = "" if found.opens_at is None else f"; working time begins at {found.opens_at:%Y-%m-%d %H:%M} UTC"
    raise NobodyAvailable(
        f"no live agent is there, {WHY[found.reason]}{until}. Say so to the user, or leave require_available out "
        f"(who answers in an inbox: {PREFIX}INBOX_MEMBERS)",
        opens_at=found.opens_at,
    )
