"""CRM contacts, many at a time: batch read, create, update, upsert and archive; merge and privacy deletion.

Source: docs/hubspot.rst (Contacts).

What can't be done for some of them is in ``errors`` with a 207, in v3's document only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, request

from ..behaviour import people
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, Contact, iso, now_ms
from .contacts import BASES, READ, WRITE, create_one, look_up, shape
from .crm import NEW, given_properties
from .wire import bearer, json_body, on, without_nulls

bp = Blueprint("contacts_batch", __name__)

MAX_INPUTS = 100
BY_ID: JSON = {"id!": str, "idProperty": str, "properties!": {}, "objectWriteTraceId": str}


def batch(spec: JSON, status: int, handle: Callable[[JSON, JSON], JSON]) -> Any:
    """Handle each of ``inputs``; what raises ApiError is collected."""
    started = iso(now_ms())
    body = json_body({"inputs!": [spec], "properties": [str], "propertiesWithHistory": [str], "idProperty": str})
    if len(body["inputs"]) > MAX_INPUTS:
        raise ApiError.invalid("inputs", f"must not be more than {MAX_INPUTS}")
    results, problems = [], []
    for item in body["inputs"]:
        try:
            results.append(handle(item, body))
        except ApiError as problem:
            problems.append(problem)
    answer: JSON = {"status": "COMPLETE", "results": results, "startedAt": started, "completedAt": iso(now_ms())}
    if not problems or not request.path.startswith("/crm/v3"):
        if problems and not results:
            raise problems[0]
        return answer, status
    errors = [
        {"status": "error", "context": {}, "errors": [], "links": {}}
        | {name: problem.body[name] for name in ("category", "message")}
        for problem in problems
    ]
    return answer | {"numErrors": len(errors), "errors": errors}, 207


def found(sim: Simulation, portal_id: str, item: JSON, unique: str | None) -> Contact:
    """Return the contact of one input. Raises ApiError (404)."""
    contact = look_up(sim, portal_id, item["id"], item.get("idProperty") or unique)
    if contact is None:
        raise ApiError(404, "OBJECT_NOT_FOUND", "Could not get some CONTACT objects, they may be deleted or not exist.")
    return contact


@on(bp, "POST", BASES, "/batch/read")
def read() -> Any:
    sim = current()
    made = bearer(sim, READ)

    def one(item: JSON, body: JSON) -> JSON:
        contact = found(sim, made.portal_id, item, body.get("idProperty"))
        return shape(contact, body.get("properties"), body.get("propertiesWithHistory"))

    return batch({"id!": str}, 200, one)


@on(bp, "POST", BASES, "/batch/create")
def create() -> Any:
    sim = current()
    made = bearer(sim, WRITE)

    return batch(NEW, 201, lambda item, body: create_one(sim, made.portal_id, item))


@on(bp, "POST", BASES, "/batch/update")
def update() -> Any:
    sim = current()
    made = bearer(sim, WRITE)

    def one(item: JSON, body: JSON) -> JSON:
        contact, properties = found(sim, made.portal_id, item, None), given_properties(item)
        people.change_contact(sim, contact, properties)
        return shape(contact, list(properties))

    return batch(BY_ID, 200, one)


@on(bp, "POST", BASES, "/batch/upsert")
def upsert() -> Any:
    sim = current()
    made = bearer(sim, WRITE)

    def one(item: JSON, body: JSON) -> JSON:
        unique, properties = item.get("idProperty"), given_properties(item)
        contact = look_up(sim, made.portal_id, item["id"], unique)
        if contact is not None:
            people.change_contact(sim, contact, properties)
            return upserted(contact, properties, is_new=False)
        if unique is None:
            raise ApiError(404, "OBJECT_NOT_FOUND", "resource not found")
        contact = people.make_contact(sim, made.portal_id, {unique: item["id"]} | properties)
        return upserted(contact, properties, is_new=True)

    return batch(BY_ID, 200, one)


def upserted(contact: Contact, properties: JSON, *, is_new: bool) -> JSON:
    """Return a ``SimplePublicUpsertObject``, whose properties are never null."""
    answer: JSON = without_nulls(shape(contact, list(properties)))
    return answer | {"new": is_new}


@on(bp, "POST", BASES, "/batch/archive")
def archive() -> Any:
    sim = current()
    made = bearer(sim, WRITE)
    for item in json_body({"inputs!": [{"id!": str}]})["inputs"]:
        contact = people.contact(sim.world, made.portal_id, item["id"])
        if contact is not None:
            contact.archived = True
    return "", 204


@on(bp, "POST", BASES, "/merge")
def merge() -> Any:
    """Merge two contacts: the primary one stays, and the other one's id finds it from now on."""
    sim = current()
    made = bearer(sim, WRITE)
    body = json_body({"primaryObjectId!": str, "objectIdToMerge!": str})
    winner = people.contact(sim.world, made.portal_id, body["primaryObjectId"])
    loser = people.contact(sim.world, made.portal_id, body["objectIdToMerge"])
    if winner is None or loser is None or winner is loser:
        raise ApiError(400, "VALIDATION_ERROR", "Two contacts of this account are needed")
    people.merge_contacts(sim, winner, loser)
    return shape(winner)


@on(bp, "POST", BASES, "/gdpr-delete")
def gdpr_delete() -> Any:
    """Delete a contact for good; like HubSpot, do not complain about one that does not exist."""
    sim = current()
    made = bearer(sim, WRITE)
    body = json_body({"objectId!": str, "idProperty": str})
    contact = look_up(sim, made.portal_id, body["objectId"], body.get("idProperty"))
    if contact is not None:
        contact.archived = True
        contact.properties = {}
    return "", 204
