"""CRM properties, to read: those of contacts, and what all other objects have; v3, 2026-03 and 2026-09.

Source: docs/hubspot.rst (Contact properties; Kinds of objects). The shape is what HubSpot's own clients read.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from ..engine.simulation import current
from ..model import kinds
from ..model.errors import ApiError
from ..model.properties import OF_ANY, OF_CONTACTS, Property
from ..model.records import BY_NAME
from ..model.world import JSON
from .wire import bearer, on, query_bool

bp = Blueprint("properties", __name__)
BASES = ("/crm/v3/properties", "/crm/properties/2026-03", "/crm/properties/2026-09")
SCHEMAS = "crm.schemas.contacts.read"
GROUP = "contactinformation"


def shape(one: Property) -> JSON:
    """Return a ``Property``."""
    return {
        "name": one.name,
        "label": one.label,
        "type": one.type,
        "fieldType": one.field_type,
        "description": "",
        "groupName": GROUP,
        "options": [
            {"label": value.capitalize(), "value": value, "displayOrder": number, "hidden": False}
            for number, value in enumerate(one.options)
        ],
        "displayOrder": -1,
        "calculated": "calculated" in one.name,
        "externalOptions": one.name == "hubspot_owner_id",
        "hasUniqueValue": one.is_unique,
        "hidden": False,
        "hubspotDefined": True,
        "formField": not one.is_read_only,
        "archived": False,
        "modificationMetadata": {
            "archivable": False,
            "readOnlyDefinition": True,
            "readOnlyOptions": False,
            "readOnlyValue": one.is_read_only,
        },
    }


def properties_of(kind: str) -> dict[str, Property]:
    """Return the properties of a kind of objects, for a token that may read them. Raises ApiError (400, 403, 501)."""
    if kind in ("contacts", "contact", "0-1"):
        bearer(current(), kinds.CONTACTS, SCHEMAS)
        return OF_CONTACTS
    name = BY_NAME[kind].name if kind in BY_NAME else kind
    if name in kinds.READ:
        bearer(current(), kinds.READ[name])
        return OF_ANY
    if name.startswith(("0-", "2-", "p_")):
        raise ApiError(501, "NOT_SERVED", f"The stand-in has no properties of {name[:60]}, whatever HubSpot has")
    raise ApiError(400, "VALIDATION_ERROR", f"Unable to infer object type from: {name[:60]}")


@on(bp, "GET", BASES, "/<kind>")
def list_properties(kind: str) -> Any:
    found = properties_of(kind)
    return {"results": [] if query_bool("archived") else [shape(one) for one in found.values()]}


@on(bp, "GET", BASES, "/<kind>/<name>")
def get_property(kind: str, name: str) -> Any:
    found = properties_of(kind).get(name.lower())
    if found is None:
        raise ApiError(404, "OBJECT_NOT_FOUND", f'Property "{name[:60]}" does not exist')
    return shape(found)
