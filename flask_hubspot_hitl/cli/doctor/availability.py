"""Check whether HubSpot tells who is available, where the settings ask for that."""

from __future__ import annotations

from collections.abc import Iterator

from ...config import Settings
from ...errors import HubSpotNotFound, HubSpotRejected
from ...hubspot.client import HubSpotClient
from ...hubspot.fields import PERSON
from ...hubspot.scopes import TEAMS_SCOPE, USERS_SCOPE
from ...portals.attendance import TEAM
from .findings import Code

SCOPES = (USERS_SCOPE, TEAMS_SCOPE)
"""Scopes whose lack keeps nothing from working but this."""


def check(settings: Settings, client: HubSpotClient) -> Iterator[tuple[Code, str]]:
    """Ask HubSpot for the users, and for the members of the teams that are set."""
    if settings.availability != "hubspot":
        return
    members = [one.rpartition("/")[2] for one in settings.inbox_members]
    try:
        known = {one.user_id for one in client.users()}
    except HubSpotRejected as error:
        if error.category != "MISSING_SCOPES":
            raise
        yield Code.UNTOLD, f"Not granted: {USERS_SCOPE}."
        return
    agents = [one.removeprefix(PERSON) for one in members if not one.startswith(TEAM)]
    gone = [f"agent {PERSON}{one}" for one in dict.fromkeys(agents) if one not in known]
    for one in dict.fromkeys(one.removeprefix(TEAM) for one in members if one.startswith(TEAM)):
        try:
            client.team_members(one)
        except HubSpotNotFound:
            gone.append(f"team {one}")
        except HubSpotRejected as error:
            if error.category != "MISSING_SCOPES":
                raise
            yield Code.UNTOLD, f"Not granted: {TEAMS_SCOPE}."
            break
    if gone:
        yield Code.NO_MEMBER, f"The portal has no {', no '.join(gone)}."
