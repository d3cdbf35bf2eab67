"""Control routes for the people who work in a portal: who is there, who works when, who is in a team."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint

from ..api import objects, teams
from ..api.wire import ANY
from ..behaviour import records, staff
from ..engine.simulation import Simulation, current
from ..model import preset
from ..model.errors import ApiError
from ..model.records import Record
from ..model.staff import Team
from ..model.world import now_ms
from .control import control_body

bp = Blueprint("control_staff", __name__, url_prefix="/_sim")

HELD = {"status": staff.STATUS, "workingHours": staff.WORKING, "outOfOffice": staff.ABSENT, "timeZone": staff.ZONE}
"""What a body may have, and the property that it is."""


@bp.put("/agents/<actor_id>/availability")
def put_availability(actor_id: str) -> Any:
    """Say that an agent is ``available`` or ``away``, and when the agent works; null takes a thing away.

    ``workingHours`` and ``outOfOffice`` are lists, or any text, which is kept as it is: HubSpot's may be broken, too.
    """
    sim = current()
    body = control_body({"portalId": str, "status": str, "timeZone": str, "workingHours": ANY, "outOfOffice": ANY})
    portal_id = body.pop("portalId", None) or preset.PORTAL_ID
    user = find_user(sim, portal_id, actor_id)
    user.properties |= {HELD[name]: _text(value) for name, value in body.items()}
    user.updated_ms = now_ms()
    return objects.shape(user, [*HELD.values(), "hs_internal_user_id"])


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def find_user(sim: Simulation, portal_id: str, actor_id: str) -> Record:
    """Return the user object of an agent. Raises ApiError (404)."""
    for one in records.of(sim.world, portal_id, "users"):
        if f"A-{one.properties['hs_internal_user_id']}" == actor_id:
            return one
    raise ApiError.missing("Agent")


@bp.post("/teams")
def make_team() -> Any:
    """Make a team of agents (``members``: their actor ids) in the preset portal, or in ``portalId``."""
    sim = current()
    body = control_body({"name!": str, "members": [str], "portalId": str})
    portal_id = body.get("portalId") or preset.PORTAL_ID
    members = [find_user(sim, portal_id, one).properties["hs_internal_user_id"] for one in body.get("members") or []]
    team = Team(sim.ids.large(), portal_id, body["name"], members={str(one): True for one in members})
    sim.world.teams[team.id] = team
    return teams.shape(team), 201
