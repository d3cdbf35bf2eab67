"""CRM owners, to read; v3, 2026-03 and 2026-09 (docs/hubspot.rst: Owners). The shape is what HubSpot's clients read."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from ..behaviour import shapes
from ..engine.simulation import current
from ..model.errors import ApiError
from ..model.staff import Member
from ..model.world import JSON, World, iso
from .wire import bearer, on, page, query_bool, whole

bp = Blueprint("owners", __name__)

BASES = ("/crm/v3/owners", "/crm/owners/2026-03", "/crm/owners/2026-09")
SCOPE = "crm.objects.owners.read"
MOST = 500
"""Owners that a page may have."""


def shape(world: World, portal_id: str, member: Member) -> JSON:
    """Return a ``PublicOwner``. One that is archived has no user any more, but had one."""
    agent = world.actors[portal_id, f"A-{member.user_id}"]
    first, _, last = (agent.name or "").partition(" ")
    return shapes.given(
        id=member.owner_id,
        email=agent.email,
        type="PERSON",
        firstName=first,
        lastName=last,
        userId=None if member.archived else int(member.user_id),
        userIdIncludingInactive=int(member.user_id),
        createdAt=iso(member.created_ms),
        updatedAt=iso(member.updated_ms),
        archived=member.archived,
        teams=teams_of(world, portal_id, member) or None,
    )


def teams_of(world: World, portal_id: str, member: Member) -> list[JSON]:
    """Return the teams of an owner, as ``PublicTeam``; the main one is ``primary``."""
    return [
        {"id": team.id, "name": team.name, "primary": team.members[member.user_id]}
        for team in world.teams.values()
        if team.portal_id == portal_id and member.user_id in team.members
    ]


@on(bp, "GET", BASES)
def list_owners() -> Any:
    sim = current()
    portal_id, world = bearer(sim, SCOPE).portal_id, sim.world
    archived, email = query_bool("archived"), request.args.get("email")
    whole(request.args.get("limit", "100"), "limit", 1, MOST)
    found = [one for one in world.members(portal_id) if one.archived == archived]
    if email:
        found = [
            one for one in found if (world.actors[portal_id, f"A-{one.user_id}"].email or "").lower() == email.lower()
        ]
    return page(found, lambda one: shape(world, portal_id, one), page_size=sim.chaos.page_size, total=False)


@on(bp, "GET", BASES, "/<owner_id>")
def get_owner(owner_id: str) -> Any:
    """Answer with one owner, by its own id or by the id of its user (``idProperty=userId``)."""
    sim = current()
    portal_id = bearer(sim, SCOPE).portal_id
    by, archived = request.args.get("idProperty", "id"), query_bool("archived")
    if by not in ("id", "userId"):
        raise ApiError.invalid("idProperty", "must be id or userId")
    for one in sim.world.members(portal_id):
        if one.archived == archived and owner_id == (one.owner_id if by == "id" else one.user_id):
            return shape(sim.world, portal_id, one)
    raise ApiError.missing("Owner")
