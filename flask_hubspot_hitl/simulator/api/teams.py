"""Teams of a portal and who is in them, 2026-09-beta (docs/hubspot.rst: Teams)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from ..behaviour import shapes, staff
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.staff import Team
from ..model.world import JSON
from .wire import bearer, json_body, on, page

bp = Blueprint("teams", __name__)

BASES = ("/settings/teams/2026-09-beta",)
READ, WRITE = "settings.users.teams.read", "settings.users.teams.write"
TYPES = frozenset({"DEFAULT", "EXTRA"})
MEMBER = {"userId!": str, "type!": TYPES}


def shape(team: Team) -> JSON:
    """Return a ``TeamResponse``."""
    return shapes.given(id=team.id, name=team.name, parentTeamId=team.parent_id)


def member(team: Team, user_id: str) -> JSON:
    """Return a ``TeamMemberResponse``."""
    return {"userId": user_id, "type": "DEFAULT" if team.members[user_id] else "EXTRA"}


def find(sim: Simulation, portal_id: str, team_id: str) -> Team:
    """Return a team of the portal. Raises ApiError (404)."""
    found = sim.world.teams.get(team_id)
    if found is None or found.portal_id != portal_id:
        raise ApiError.missing("Team")
    return found


def put(sim: Simulation, team: Team, given: list[JSON]) -> None:
    """Put users into a team. Raises ApiError (400) for one that there is not."""
    for one in given:
        if (team.portal_id, f"A-{one['userId']}") not in sim.world.actors:
            raise ApiError.invalid("userId", "there is no such user")
    team.members |= {one["userId"]: one["type"] == "DEFAULT" for one in given}


@on(bp, "GET", BASES)
def list_teams() -> Any:
    sim = current()
    portal_id = bearer(sim, READ).portal_id
    mine = [one for one in sim.world.teams.values() if one.portal_id == portal_id]
    return page(mine, shape, page_size=sim.chaos.page_size, total=False)


@on(bp, "POST", BASES)
def create() -> Any:
    sim = current()
    portal_id = bearer(sim, WRITE).portal_id
    body = json_body({"name!": str, "members!": [MEMBER], "parentTeamId": str})
    if not body["name"].strip():
        raise ApiError.invalid("name", "must not be blank")
    if body.get("parentTeamId"):
        find(sim, portal_id, body["parentTeamId"])
    made = Team(sim.ids.large(), portal_id, body["name"], body.get("parentTeamId") or None)
    put(sim, made, body["members"])
    sim.world.teams[made.id] = made
    return shape(made), 201


@on(bp, "GET", BASES, "/<team_id>")
def read(team_id: str) -> Any:
    sim = current()
    return shape(find(sim, bearer(sim, READ).portal_id, team_id))


@on(bp, "PATCH", BASES, "/<team_id>")
def update(team_id: str) -> Any:
    sim = current()
    portal_id = bearer(sim, WRITE).portal_id
    team = find(sim, portal_id, team_id)
    body = json_body({"name": str, "parentTeamId": str})  # the document says objects, which no name is
    if body.get("parentTeamId") == team.id:
        raise ApiError.invalid("parentTeamId", "a team can't be its own parent")
    if body.get("parentTeamId"):
        find(sim, portal_id, body["parentTeamId"])
    team.name = body.get("name") or team.name
    team.parent_id = body.get("parentTeamId", team.parent_id) or None
    return shape(team)


@on(bp, "DELETE", BASES, "/<team_id>")
def delete(team_id: str) -> Any:
    sim = current()
    del sim.world.teams[find(sim, bearer(sim, WRITE).portal_id, team_id).id]
    return "", 204


@on(bp, "GET", BASES, "/<team_id>/members")
def list_members(team_id: str) -> Any:
    sim = current()
    portal_id = bearer(sim, READ).portal_id
    team = find(sim, portal_id, team_id)

    def told(user_id: str) -> JSON:
        return member(team, user_id) | {"userId": staff.id_in_team(sim, portal_id, user_id)}

    return page(team.members, told, page_size=sim.chaos.page_size, total=False)


@on(bp, "POST", BASES, "/<team_id>/members")
def add_member(team_id: str) -> Any:
    sim = current()
    team = find(sim, bearer(sim, WRITE).portal_id, team_id)
    body = json_body(MEMBER)
    put(sim, team, [body])
    return member(team, body["userId"]), 201


@on(bp, "POST", BASES, "/<team_id>/members/batch")
def add_members(team_id: str) -> Any:
    sim = current()
    team = find(sim, bearer(sim, WRITE).portal_id, team_id)
    started, body = shapes.iso_now(), json_body({"inputs!": [MEMBER]})
    put(sim, team, body["inputs"])
    results = [member(team, one["userId"]) for one in body["inputs"]]
    return {"status": "COMPLETE", "results": results, "startedAt": started, "completedAt": shapes.iso_now()}


@on(bp, "DELETE", BASES, "/<team_id>/members/<user_id>")
def remove_member(team_id: str, user_id: str) -> Any:
    sim = current()
    team = find(sim, bearer(sim, WRITE).portal_id, team_id)
    kind = request.args.get("type")
    if kind is not None and kind not in TYPES:
        raise ApiError.invalid("type", "must be DEFAULT or EXTRA")
    if user_id not in team.members or kind not in (None, member(team, user_id)["type"]):
        raise ApiError.missing("Member")
    del team.members[user_id]
    return "", 204
