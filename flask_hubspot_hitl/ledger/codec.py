"""Values ⇄ JSON text, so that the other modules see only dataclasses. Knows ``domain``, not SQLAlchemy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..domain import Attachment, Contact, Operator

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


_ATTACHMENT = [name for name in Attachment.__slots__ if name != "content"]


def dumps(value: Any) -> str:
    """JSON as ASCII: PostgreSQL and SQLite store any text of it alike."""
    return "null" if value is None else _encode(value)


def loads(text: str | None) -> Any:
    """The value of :func:`dumps`; None for None."""
    return None if text is None or text == "null" else json.loads(text)


def operator_to_json(operator: Operator | None) -> dict[str, Any] | None:
    return None if operator is None else {name: getattr(operator, name) for name in Operator.__slots__}


def operator_from_json(value: Mapping[str, Any] | None) -> Operator | None:
    known: dict[str, Any] = {} if value is None else {name: value.get(name) for name in Operator.__slots__}
    return Operator(**known) if known else None


def contact_to_json(contact: Contact | None) -> dict[str, Any] | None:
    if contact is None:
        return None
    newer = {"whatsapp": contact.whatsapp, "extension": contact.extension}
    # What is new is left out when it is empty: an older process that is still running does not know it.
    return {"phone": contact.phone, "email": contact.email, **{name: one for name, one in newer.items() if one}}


def contact_from_json(value: dict[str, Any] | None) -> Contact | None:
    return None if value is None else Contact(**value)


def attachment_to_json(attachment: Attachment) -> dict[str, Any]:
    return {name: getattr(attachment, name) for name in _ATTACHMENT}


def attachment_from_json(value: Mapping[str, Any]) -> Attachment:
    return Attachment(**{name: value.get(name) for name in _ATTACHMENT})
