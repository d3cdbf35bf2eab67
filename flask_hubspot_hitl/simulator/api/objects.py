"""CRM records beside contacts: users, tickets and notes; v3, 2026-03 and 2026-09.

Source: docs/hubspot.rst (Users; Notes and tickets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, request

from ..behaviour import records, shapes, staff
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.records import BY_NAME, Kind, Record
from ..model.world import JSON, iso
from .crm import NEW, asked_history, asked_properties, found, given_properties, history_of
from .wire import bearer, json_body, on, page, query_bool, query_list

bp = Blueprint("objects", __name__)

BASES = tuple(
    f"{base}/<any({', '.join(repr(name) for name in BY_NAME)}):name>"
    for base in ("/crm/v3/objects", "/crm/objects/2026-03", "/crm/objects/2026-09")
)
CHANGED: JSON = {"properties!": {}, "objectWriteTraceId": str}
MAX_INPUTS = 100


def values_of(record: Record) -> dict[str, str | None]:
    """Return every property of a record, as HubSpot tells them just now."""
    values = records.values(record)
    return staff.told(current(), values) if record.kind == "users" else values


def change(record: Record, kind: Kind, properties: dict[str, str | None]) -> None:
    """Change some properties. Raises ApiError (400)."""
    if record.kind == "users":
        staff.check(current(), record.properties | properties, properties)
    if record.kind == "tickets" and current().chaos.ticket_rule in properties:
        raise ApiError.invalid(f"properties.{current().chaos.ticket_rule}", "is against a validation rule")
    records.change(record, kind, properties)


def shape(record: Record, names: list[str] | None = None, past: list[str] | None = None) -> JSON:
    """Return a ``SimplePublicObject`` with the properties asked for, or the kind's default ones."""
    kind, values = BY_NAME[record.kind], values_of(record)
    always = ("hs_object_id", "hs_createdate", "hs_lastmodifieddate")
    wanted = dict.fromkeys([*(names or kind.returned), *(past or ()), *always])
    if request.path.startswith("/crm/v3"):
        wanted = {name: None for name in wanted if values.get(name) is not None}
    return shapes.given(
        id=record.id,
        properties={name: values.get(name) for name in wanted},
        propertiesWithHistory=history_of(past, lambda name: records.past(record, name)) if past else None,
        createdAt=iso(record.created_ms),
        updatedAt=iso(record.updated_ms),
        archived=record.archived,
    )


def with_links(record: Record, asked: list[str]) -> JSON:
    """Return ``associations`` to the kinds asked for, when there are any."""
    answer = {}
    for name in asked:
        kind = BY_NAME[name].name if name in BY_NAME else "contacts" if name in ("contact", "0-1") else name
        ids = sorted(key for linked, key in record.links if linked == kind)
        if ids:
            label = f"{record.kind.removesuffix('s')}_to_{kind.removesuffix('s')}"
            answer[kind] = {"results": [{"id": key, "type": label} for key in ids]}
    return {"associations": answer} if answer else {}


def look_up(sim: Simulation, portal_id: str, kind: Kind, key: str, *, archived: bool = False) -> Record:
    """Return a record by id or by the unique property ``idProperty``. Raises ApiError (400, 404)."""
    unique = request.args.get("idProperty") or "hs_object_id"
    if unique not in kind.unique:
        raise ApiError.invalid("idProperty", f"must be one of {', '.join(kind.unique)}")
    for one in records.of(sim.world, portal_id, kind.name):
        if one.archived == archived and (values_of(one).get(unique) or "").lower() == key.lower():
            return one
    raise ApiError(404, "OBJECT_NOT_FOUND", "Object not found. objectId are usually numeric.")


def create_one(sim: Simulation, portal_id: str, kind: Kind, body: JSON) -> JSON:
    """Make a record with its associations, or none at all. Raises ApiError (400)."""
    properties = given_properties(body)
    others = records.targets(sim, portal_id, kind.name, body.get("associations") or [])
    made = records.make(sim, portal_id, kind, properties)
    records.associate(sim.world, kind.name, made.id, others)
    return shape(made, list(properties))


@on(bp, "GET", BASES)
def list_records(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.read).portal_id
    archived, names, past, asked = (
        query_bool("archived"),
        asked_properties(),
        asked_history(),
        query_list("associations"),
    )
    listed = [one for one in records.of(sim.world, portal_id, kind.name) if one.archived == archived]
    size = sim.chaos.page_size
    limit = request.args.get("limit", "10")
    return page(
        listed, lambda one: shape(one, names, past) | with_links(one, asked), page_size=size, total=False, limit=limit
    )


@on(bp, "POST", BASES)
def create(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.write).portal_id
    return create_one(sim, portal_id, kind, json_body(NEW)), 201


@on(bp, "POST", BASES, "/search")
def search(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.read).portal_id
    mine = [one for one in records.of(sim.world, portal_id, kind.name) if not one.archived]
    return found(sim, mine, values_of, kind.queried, shape)


@on(bp, "GET", BASES, "/<key>")
def read(name: str, key: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.read).portal_id
    one = look_up(sim, portal_id, kind, key, archived=query_bool("archived"))
    return shape(one, asked_properties(), asked_history()) | with_links(one, query_list("associations"))


@on(bp, "PATCH", BASES, "/<key>")
def update(name: str, key: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.write).portal_id
    one = look_up(sim, portal_id, kind, key)
    properties = given_properties(json_body(CHANGED))
    change(one, kind, properties)
    return shape(one, list(properties))


@on(bp, "DELETE", BASES, "/<key>")
def archive(name: str, key: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.write).portal_id
    look_up(sim, portal_id, kind, key).archived = True
    return "", 204


# --- many at a time; what can't be done for one fails the whole, as 2026-09 has no 207


def each(spec: JSON, status: int, handle: Callable[[JSON, JSON], JSON]) -> Any:
    """Handle each of ``inputs``. Raises ApiError (400)."""
    body = json_body({"inputs!": [spec], "properties": [str], "propertiesWithHistory": [str], "idProperty": str})
    if len(body["inputs"]) > MAX_INPUTS:
        raise ApiError.invalid("inputs", f"must not be more than {MAX_INPUTS}")
    started = shapes.iso_now()
    results = [handle(one, body) for one in body["inputs"]]
    return {"status": "COMPLETE", "results": results, "startedAt": started, "completedAt": shapes.iso_now()}, status


@on(bp, "POST", BASES, "/batch/read")
def batch_read(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.read).portal_id
    archived = query_bool("archived")

    def one(item: JSON, body: JSON) -> JSON:
        record = look_up(sim, portal_id, kind, item["id"], archived=archived)
        return shape(record, body.get("properties"), body.get("propertiesWithHistory"))

    return each({"id!": str}, 200, one)


@on(bp, "POST", BASES, "/batch/create")
def batch_create(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.write).portal_id
    return each(NEW, 201, lambda item, body: create_one(sim, portal_id, kind, item))


@on(bp, "POST", BASES, "/batch/update")
def batch_update(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.write).portal_id

    def one(item: JSON, body: JSON) -> JSON:
        record, properties = look_up(sim, portal_id, kind, item["id"]), given_properties(item)
        change(record, kind, properties)
        return shape(record, list(properties))

    return each({"id!": str, "properties!": {}}, 200, one)


@on(bp, "POST", BASES, "/batch/archive")
def batch_archive(name: str) -> Any:
    sim, kind = current(), BY_NAME[name]
    portal_id = bearer(sim, *kind.write).portal_id
    ids = {item["id"] for item in json_body({"inputs!": [{"id!": str}]})["inputs"]}
    for one in records.of(sim.world, portal_id, kind.name):
        one.archived = one.archived or one.id in ids
    return "", 204
