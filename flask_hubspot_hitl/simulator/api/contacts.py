"""CRM contacts: search, read, create, update; v3, 2026-03 and 2026-09 (docs/hubspot.rst: Contacts)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from ..behaviour import people, records
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.properties import OF_CONTACTS
from ..model.world import JSON, Contact, iso
from .crm import NEW, asked_history, asked_properties, found, given_properties, history_of
from .wire import bearer, json_body, on, page, query_bool

bp = Blueprint("contacts", __name__)

# the object type may be written as a name or as a number (docs/hubspot.rst: Contact search)
BASES = (
    "/crm/v3/objects/contacts",
    "/crm/objects/2026-03/contacts",
    "/crm/objects/2026-09/contacts",
    "/crm/objects/2026-03/0-1",
    "/crm/objects/2026-09/0-1",
)
READ, WRITE = "crm.objects.contacts.read", "crm.objects.contacts.write"
RETURNED = ("firstname", "lastname", "email", "lastmodifieddate", "hs_object_id", "createdate")
QUERIED = ("firstname", "lastname", "email", "phone", "hs_additional_emails", "fax", "mobilephone", "company")


def values_of(contact: Contact) -> dict[str, str | None]:
    """Return every property of a contact, with the ones HubSpot keeps itself."""
    return people.properties_of(contact) | {
        "hs_object_id": contact.id,
        "createdate": iso(contact.created_ms),
        "lastmodifieddate": iso(contact.updated_ms),
    }


def shape(contact: Contact, names: list[str] | None = None, past: list[str] | None = None) -> JSON:
    """Return a ``SimplePublicObject`` with the properties asked for, or the default ones.

    :param past: the properties to tell with all values that they had.
    """
    values = values_of(contact)
    wanted = dict.fromkeys([*(names or RETURNED), *(past or ()), "hs_object_id", "createdate", "lastmodifieddate"])
    if request.path.startswith("/crm/v3"):
        wanted = {name: None for name in wanted if values.get(name) is not None}
    answer = {
        "id": contact.id,
        "properties": {name: values.get(name) for name in wanted},
        "createdAt": iso(contact.created_ms),
        "updatedAt": iso(contact.updated_ms),
        "archived": contact.archived,
    }
    told = history_of(past or [], lambda name: past_of(contact, name))
    return answer | ({"propertiesWithHistory": told} if past else {})


def past_of(contact: Contact, name: str) -> list[tuple[str, int]]:
    """Return every value that a property had, and since when (epoch milliseconds), newest first."""
    own = values_of(contact).get(name)
    return people.history(contact, name) or ([(own, contact.updated_ms)] if own is not None else [])


@on(bp, "POST", BASES, "/search")
def search() -> Any:
    sim = current()
    made = bearer(sim, READ)
    return found(sim, sim.world.contacts_of(made.portal_id), values_of, QUERIED, shape)


# --- one contact


def look_up(
    sim: Simulation, portal_id: str, contact_id: str, unique: str | None, *, archived: bool = False
) -> Contact | None:
    """Find a contact by id (that of a merged one finds the one it went into), or by a unique property.

    Raises ApiError (400) for a property that is not unique.
    """
    if unique is not None and not (unique in OF_CONTACTS and OF_CONTACTS[unique].is_unique):
        raise ApiError.invalid("idProperty", "must be a property with unique values, such as email")
    if unique is None and not archived:
        return people.contact(sim.world, portal_id, contact_id)
    for contact in sim.world.contacts.values():
        if contact.portal_id == portal_id and contact.archived == archived:
            value = contact.id if unique in (None, "hs_object_id") else values_of(contact).get(str(unique))
            if value is not None and value.lower() == contact_id.lower():
                return contact
    return None


def find_contact(sim: Simulation, portal_id: str, contact_id: str) -> Contact:
    """Return the contact in the path, by id or by ``?idProperty=email``, else answer 404."""
    known = look_up(sim, portal_id, contact_id, request.args.get("idProperty"), archived=query_bool("archived"))
    if known is None:
        raise ApiError(404, "OBJECT_NOT_FOUND", "resource not found")
    return known


@on(bp, "GET", BASES)
def list_contacts() -> Any:
    sim = current()
    made = bearer(sim, READ)
    archived, names, past = query_bool("archived"), asked_properties(), asked_history()
    listed = [c for c in sim.world.contacts.values() if c.portal_id == made.portal_id and c.archived == archived]
    limit = request.args.get("limit", "10")
    return page(listed, lambda c: shape(c, names, past), page_size=sim.chaos.page_size, total=False, limit=limit)


@on(bp, "POST", BASES)
def create_contact() -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    return create_one(sim, made.portal_id, json_body(NEW)), 201


def create_one(sim: Simulation, portal_id: str, body: JSON) -> JSON:
    """Make a contact with its associations, or none at all. Raises ApiError."""
    properties = given_properties(body)
    others = records.targets(sim, portal_id, "contacts", body.get("associations") or [])
    made = people.make_contact(sim, portal_id, properties)
    records.associate(sim.world, "contacts", made.id, others)
    return shape(made, list(properties))


@on(bp, "GET", BASES, "/<contact_id>")
def get_contact(contact_id: str) -> Any:
    sim = current()
    made = bearer(sim, READ)
    return shape(find_contact(sim, made.portal_id, contact_id), asked_properties(), asked_history())


@on(bp, "PATCH", BASES, "/<contact_id>")
def update_contact(contact_id: str) -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    contact = find_contact(sim, made.portal_id, contact_id)
    properties = given_properties(json_body({"properties!": {}, "objectWriteTraceId": str}))
    people.change_contact(sim, contact, properties)
    return shape(contact, list(properties))


@on(bp, "DELETE", BASES, "/<contact_id>")
def archive_contact(contact_id: str) -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    find_contact(sim, made.portal_id, contact_id).archived = True
    return "", 204
