"""How users, tickets and notes come to be and change: a help desk's thread has a ticket, each agent is a user.

Source: docs/hubspot.rst (Users; Notes and tickets).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.errors import ApiError
from ..model.records import ASSOCIATIONS, PRIORITIES, Kind, Record
from ..model.world import JSON, Thread, World, iso, now_ms
from . import people

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

OWN = ("hs_object_id", "hs_createdate", "createdate", "hs_lastmodifieddate", "lastmodifieddate")
"""Properties that HubSpot keeps itself."""
NEW_USER = {"hs_availability_status": "available"}
"""What an agent of the stand-in begins with."""


def of(world: World, portal_id: str, kind: str) -> list[Record]:
    """Return the records of a kind in a portal, archived ones too, oldest first."""
    _come_to_be(world, portal_id)
    return [one for one in world.records.values() if (one.portal_id, one.kind) == (portal_id, kind)]


def _come_to_be(world: World, portal_id: str) -> None:
    """Make the users of agents, and the tickets of threads, that are not there yet."""
    for member in world.members(portal_id):
        if member.object_id not in world.records:
            made = Record(member.object_id, portal_id, "users", dict(NEW_USER), member.created_ms, member.created_ms)
            world.records[made.id] = made
        agent = world.actors[portal_id, f"A-{member.user_id}"]
        first, _, last = (agent.name or "").partition(" ")
        names = {"hs_email": agent.email, "hs_given_name": first or None, "hs_family_name": last or None}
        world.records[member.object_id].properties |= {"hs_internal_user_id": member.user_id} | names
        world.records[member.object_id].archived = member.archived
    for thread in world.threads.values():
        if thread.portal_id == portal_id and thread.ticket_id is not None and thread.ticket_id not in world.records:
            properties: dict[str, str | None] = {
                "subject": str(thread.customer.get("name") or "Conversation"),
                "hs_pipeline": "0",
                "hs_pipeline_stage": "1",
                "hs_conversations_originating_thread_id": thread.id,
            }
            made = Record(thread.ticket_id, portal_id, "tickets", properties, thread.created_ms, thread.created_ms)
            made.links.add(("contacts", thread.contact_id))
            world.records[made.id] = made


def values(record: Record) -> dict[str, str | None]:
    """Return every property, with those that HubSpot keeps itself."""
    times = {name: iso(record.created_ms if "create" in name else record.updated_ms) for name in OWN[1:]}
    return {**record.properties, **times, "hs_object_id": record.id}


def ticket_of(world: World, thread: Thread) -> JSON | None:
    """Return a thread's ticket, for agents: its id, its properties, and its notes, oldest first."""
    if thread.ticket_id is None:
        return None
    ticket = next(one for one in of(world, thread.portal_id, "tickets") if one.id == thread.ticket_id)
    linked = {key for kind, key in ticket.links if kind == "notes"}
    notes = [values(one) for one in of(world, thread.portal_id, "notes") if one.id in linked and not one.archived]
    told = [{"body": one.get("hs_note_body"), "at": one.get("hs_timestamp")} for one in notes]
    return {"id": ticket.id, "properties": values(ticket), "notes": told}


def make(sim: Simulation, portal_id: str, kind: Kind, properties: dict[str, str | None]) -> Record:
    """Make a record. Raises ApiError (400) for a property that is missing or can't be."""
    for name in kind.required:
        if not properties.get(name):
            raise ApiError.invalid("properties", f"the property {name} is required")
    refuse(kind, properties)
    now = now_ms()
    made = Record(sim.ids.large(), portal_id, kind.name, dict(properties), now, now)
    sim.world.records[made.id] = made
    return made


def change(record: Record, kind: Kind, properties: dict[str, str | None]) -> None:
    """Change some properties; what they were before stays in their history. Raises ApiError (400)."""
    refuse(kind, properties)
    record.updated_ms = now_ms()
    for name, value in properties.items():
        before = record.properties.get(name)
        if before != value:
            past = record.history.setdefault(name, [(before, record.created_ms)] if before is not None else [])
            past.append((value or "", record.updated_ms))
    record.properties |= properties


def refuse(kind: Kind, properties: dict[str, str | None]) -> None:
    """Refuse what HubSpot keeps itself, and an option that there is not. Raises ApiError (400)."""
    for name in properties:
        if name in OWN or (kind.name == "users" and name in ("hs_internal_user_id", "hs_email")):
            raise ApiError.invalid(f"properties.{name}", "is read only")
    if properties.get("hs_ticket_priority") not in (None, *PRIORITIES):
        raise ApiError.invalid("properties.hs_ticket_priority", f"must be one of {', '.join(PRIORITIES)}")
    if properties.get("hs_availability_status") not in (None, "available", "away"):
        raise ApiError.invalid("properties.hs_availability_status", "must be available or away")


def targets(sim: Simulation, portal_id: str, kind: str, given: list[JSON]) -> list[tuple[str, str]]:
    """Return kind and id of what a new record of a kind is to be associated with. Raises ApiError (400)."""
    found = []
    for one in given:
        for link in one["types"]:
            to, key = ASSOCIATIONS.get((kind, link["associationTypeId"])), one["to"]["id"]
            if to is None or link["associationCategory"] != "HUBSPOT_DEFINED":
                raise ApiError.invalid("associations", f"no such association type of {kind}")
            if to != "contacts":
                is_there = any(other.id == key and not other.archived for other in of(sim.world, portal_id, to))
            else:
                is_there = people.contact(sim.world, portal_id, key) is not None
            if not is_there:
                raise ApiError.invalid("associations", f"there are no {to} with the id {key[:40]}")
            found.append((to, key))
    return found


def associate(world: World, kind: str, key: str, others: list[tuple[str, str]]) -> None:
    """Associate a record with others, both ways; a contact keeps no list of its own."""
    for to, other in others:
        for one, linked in ((key, (to, other)), (other, (kind, key))):
            if one in world.records:
                world.records[one].links.add(linked)


def past(record: Record, name: str) -> list[tuple[str, int]]:
    """Return every value that a property had, and since when (epoch milliseconds), newest first."""
    value = values(record).get(name)
    last = [(value, record.updated_ms if name in OWN else record.created_ms)] if value is not None else []
    return list(reversed(record.history.get(name, last)))
