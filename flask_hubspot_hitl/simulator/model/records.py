"""CRM records beside contacts: users, tickets, notes. Plain data; knows nothing of HTTP.

Source: docs/hubspot.rst (Users; Notes and tickets).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of record; ``number`` is its object type id, and ``returned`` is told unless something is asked for."""

    name: str
    number: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    returned: tuple[str, ...]
    queried: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    """Properties that a new one must have."""
    unique: tuple[str, ...] = ("hs_object_id",)


_OF_CONTACTS = ("crm.objects.contacts.read",), ("crm.objects.contacts.write",)
KINDS = (
    Kind(
        "users",
        "0-115",
        ("crm.objects.users.read",),
        ("crm.objects.users.write",),
        ("hs_object_id", "hs_createdate", "hs_lastmodifieddate"),
        queried=("hs_email", "hs_given_name", "hs_family_name"),
        unique=("hs_object_id", "hs_internal_user_id", "hs_email"),
    ),
    Kind(
        "tickets",
        "0-5",
        ("tickets", "crm.objects.tickets.read"),
        ("tickets", "crm.objects.tickets.write"),
        ("subject", "content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_category", "hs_ticket_priority"),
        queried=("subject", "content"),
        required=("hs_pipeline_stage",),
    ),
    Kind("notes", "0-46", *_OF_CONTACTS, ("hs_timestamp",), queried=("hs_note_body",), required=("hs_timestamp",)),
)
BY_NAME = {name: kind for kind in KINDS for name in (kind.name, kind.number)}
"""Each kind by the two ways in which a path may write it."""

ASSOCIATIONS = {
    ("notes", 228): "tickets",
    ("notes", 202): "contacts",
    ("tickets", 16): "contacts",
    ("tickets", 227): "notes",
    ("contacts", 15): "tickets",
    ("contacts", 201): "notes",
}
"""What a HubSpot-defined association type leads from and to."""
PRIORITIES = ("LOW", "MEDIUM", "HIGH", "URGENT")


@dataclass
class Record:
    """A record; all property values are text, as HubSpot has them."""

    id: str
    portal_id: str
    kind: str
    properties: dict[str, str | None] = field(repr=False)
    created_ms: int
    updated_ms: int
    archived: bool = False
    links: set[tuple[str, str]] = field(default_factory=set)
    """What it is associated with: kind and id."""
    history: dict[str, list[tuple[str, int]]] = field(default_factory=dict, repr=False)
