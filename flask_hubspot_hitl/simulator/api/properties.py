"""CRM properties of contacts, to read; v3, 2026-03 and 2026-09.

Source: docs/hubspot.rst (Contact properties). The shape is what HubSpot's own clients read.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from ..engine.simulation import current
from ..model.errors import ApiError
from ..model.properties import OF_CONTACTS, Property
from ..model.world import JSON
from .contacts import READ
from .wire import bearer, on, query_bool

bp = Blueprint("properties", __name__)
BASES = tuple(
    f"{base}/{kind}"
    for base in ("/crm/v3/properties", "/crm/properties/2026-03", "/crm/properties/2026-09")
    for kind in ("contacts", "contact", "0-1")
)
SCOPES = (READ, "crm.schemas.contacts.read")
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


@on(bp, "GET", BASES)
def list_properties() -> Any:
    bearer(current(), *SCOPES)
    return {"results": [] if query_bool("archived") else [shape(one) for one in OF_CONTACTS.values()]}


@on(bp, "GET", BASES, "/<name>")
def get_property(name: str) -> Any:
    bearer(current(), *SCOPES)
    found = OF_CONTACTS.get(name.lower())
    if found is None:
        raise ApiError(404, "OBJECT_NOT_FOUND", f'Property "{name[:60]}" does not exist')
    return shape(found)
