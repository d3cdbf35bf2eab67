"""CRM contacts: search, read, create, update; v3, 2026-03 and 2026-09 (docs/hubspot.rst: Contacts)."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

from flask import Blueprint, request

from ..behaviour import people
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.properties import NONE, OF_CONTACTS, sort_key, stored_key
from ..model.world import JSON, Contact, iso, now_ms
from .wire import ANY, bearer, json_body, on, page, query_bool, query_list, whole

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
OPERATORS = frozenset(
    {
        "EQ",
        "NEQ",
        "LT",
        "LTE",
        "GT",
        "GTE",
        "BETWEEN",
        "IN",
        "NOT_IN",
        "HAS_PROPERTY",
        "NOT_HAS_PROPERTY",
        "CONTAINS_TOKEN",
        "NOT_CONTAINS_TOKEN",
    }
)
FILTER = {"propertyName!": str, "operator!": OPERATORS, "value": str, "highValue": str, "values": [str]}
SEARCH = {
    "filterGroups": [{"filters!": [FILTER]}],
    "properties": [str],
    "sorts": [ANY],  # the documents say strings, the guides objects
    "query": str,
}
MAX_GROUPS, MAX_FILTERS, MAX_TOTAL, MAX_BODY, MAX_RESULTS = 6, 6, 18, 3000, 10_000


def values_of(contact: Contact) -> dict[str, str | None]:
    """Return every property of a contact, with the ones HubSpot keeps itself."""
    return people.properties_of(contact) | {
        "hs_object_id": contact.id,
        "createdate": iso(contact.created_ms),
        "lastmodifieddate": iso(contact.updated_ms),
    }


def shape(contact: Contact, names: list[str] | None = None) -> JSON:
    """Return a ``SimplePublicObject`` with the properties asked for, or the default ones."""
    values = values_of(contact)
    wanted = dict.fromkeys([*(names or RETURNED), "hs_object_id", "createdate", "lastmodifieddate"])
    if request.path.startswith("/crm/v3"):
        wanted = {name: None for name in wanted if values.get(name) is not None}
    return {
        "id": contact.id,
        "properties": {name: values.get(name) for name in wanted},
        "createdAt": iso(contact.created_ms),
        "updatedAt": iso(contact.updated_ms),
        "archived": contact.archived,
    }


def asked_properties() -> list[str] | None:
    """Return the query's ``properties``, repeated or separated by commas."""
    return [name for name in query_list("properties") if name and "," not in name] or None


# --- search


def has_token(value: str, wanted: str) -> bool:
    """Return True when CONTAINS_TOKEN holds: one of the words matches, with ``*`` as a wildcard."""
    words = [value, *re.split(r"[\s;,]+", value), *re.split(r"[^\w]+", value)]
    return any(fnmatch.fnmatchcase(word, re.sub(r"([\[?])", r"[\1]", wanted)) for word in words if word)


def matches(values: dict[str, str | None], item: JSON) -> bool:
    """Return True when a filter of the search holds. Strings are compared without regard to case."""
    operator, name = str(item["operator"]), item["propertyName"]
    value = (values.get(name) or "").lower()
    if operator.endswith("HAS_PROPERTY"):
        return bool(value) == (operator == "HAS_PROPERTY")
    if operator in ("IN", "NOT_IN"):
        if not item.get("values"):
            raise ApiError.invalid("filterGroups", f"{operator} needs `values`")
        # IN and NOT_IN compare with lower-case values only (docs/hubspot.rst: Contact search)
        return bool(value) and (value in list(item["values"])) == (operator == "IN")
    if item.get("value") is None:
        raise ApiError.invalid("filterGroups", f"{operator} needs `value`")
    wanted = str(item["value"]).lower()
    if operator == "BETWEEN" and item.get("highValue") is None:
        raise ApiError.invalid("filterGroups", "BETWEEN needs `highValue`")
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        return has_token(value, wanted) == (operator == "CONTAINS_TOKEN")
    return compares(name, values.get(name), operator, item)


def compares(name: str, value: str | None, operator: str, item: JSON) -> bool:
    """Return True when a value compares so: dates and numbers by what they mean. Raises ApiError (400)."""
    try:
        wanted, highest = (sort_key(name, item.get(one)) for one in ("value", "highValue"))
    except ValueError as problem:
        raise ApiError.invalid("filterGroups", f"the value for {name[:60]} {problem}") from None
    found = stored_key(name, value)
    if operator == "NEQ":
        return found != wanted
    return (
        found != NONE
        and {
            "EQ": found == wanted,
            "BETWEEN": wanted <= found <= highest,
            "LT": found < wanted,
            "LTE": found <= wanted,
            "GT": found > wanted,
            "GTE": found >= wanted,
        }[operator]
    )


@on(bp, "POST", BASES, "/search")
def search() -> Any:
    sim = current()
    made = bearer(sim, READ)
    if len(request.get_data()) > MAX_BODY:
        raise ApiError.invalid("body", f"must not be longer than {MAX_BODY} characters")
    body = json_body(SEARCH)
    groups = body.get("filterGroups") or []
    sizes = [len(group["filters"]) for group in groups]
    if len(groups) > MAX_GROUPS or max(sizes, default=0) > MAX_FILTERS or sum(sizes) > MAX_TOTAL:
        raise ApiError.invalid("filterGroups", "too many filters")
    query = (body.get("query") or "").lower()
    found = []
    indexed_ms = now_ms() - round(sim.chaos.search_lag * 1000)
    for contact in sim.world.contacts_of(made.portal_id):
        if contact.created_ms > indexed_ms:
            continue
        values = values_of(contact)
        if query and not any(query in (values.get(name) or "").lower() for name in QUERIED):
            continue
        verdicts = [[matches(values, item) for item in group["filters"]] for group in groups]
        if not groups or any(all(verdict) for verdict in verdicts):
            found.append(contact)
    for rule in (body.get("sorts") or [])[:1]:
        descending = isinstance(rule, dict) and rule.get("direction") == "DESCENDING"
        name = str(rule.get("propertyName") if isinstance(rule, dict) else rule)
        descending, name = descending or name.startswith("-"), name.lstrip("-")
        found.sort(key=lambda c: stored_key(name, values_of(c).get(name)), reverse=descending)
    names = body.get("properties") or None
    limit = whole(10 if body.get("limit") is None else body["limit"], "limit", 1, 200)
    after = body.get("after") or "0"
    if whole(after, "after", 0, 10**9) + limit > MAX_RESULTS:
        raise ApiError.invalid("after", f"a search gives {MAX_RESULTS} results at most")
    answer = page(
        found,
        lambda c: shape(c, names),
        page_size=sim.chaos.page_size,
        total=False,
        after=after,
        limit=limit,
    )
    return {"total": len(found), **answer}


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
    found = look_up(sim, portal_id, contact_id, request.args.get("idProperty"), archived=query_bool("archived"))
    if found is None:
        raise ApiError(404, "OBJECT_NOT_FOUND", "resource not found")
    return found


def given_properties(body: JSON) -> dict[str, str | None]:
    """Return the properties of a write; values must be strings (numbers and booleans become one)."""
    answer: dict[str, str | None] = {}
    for name, value in body["properties"].items():
        if isinstance(value, dict | list):
            raise ApiError.invalid(f"properties.{name[:60]}", "must be a string")
        text = None if value is None else str(value)
        try:
            sort_key(name.lower(), text)
        except ValueError as problem:
            raise ApiError.invalid(f"properties.{name[:60]}", str(problem)) from None
        answer[name.lower()] = text
    return answer


@on(bp, "GET", BASES)
def list_contacts() -> Any:
    sim = current()
    made = bearer(sim, READ)
    archived, names = query_bool("archived"), asked_properties()
    found = [c for c in sim.world.contacts.values() if c.portal_id == made.portal_id and c.archived == archived]
    return page(found, lambda c: shape(c, names), page_size=sim.chaos.page_size, total=False)


@on(bp, "POST", BASES)
def create_contact() -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    properties = given_properties(json_body({"properties!": {}}))
    return shape(people.make_contact(sim, made.portal_id, properties), list(properties)), 201


@on(bp, "GET", BASES, "/<contact_id>")
def get_contact(contact_id: str) -> Any:
    sim = current()
    made = bearer(sim, READ)
    return shape(find_contact(sim, made.portal_id, contact_id), asked_properties())


@on(bp, "PATCH", BASES, "/<contact_id>")
def update_contact(contact_id: str) -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    contact = find_contact(sim, made.portal_id, contact_id)
    properties = given_properties(json_body({"properties!": {}}))
    people.change_contact(sim, contact, properties)
    return shape(contact, list(properties))


@on(bp, "DELETE", BASES, "/<contact_id>")
def archive_contact(contact_id: str) -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    find_contact(sim, made.portal_id, contact_id).archived = True
    return "", 204
