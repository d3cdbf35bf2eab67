"""Values ⇄ JSON text, so that the other modules see only dataclasses. Knows ``domain``, not SQLAlchemy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from ..domain import Attachment, Choice, Contact, Operator

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode
"""What ``json.loads`` does, for text that has no blanks around it: a third of the time."""

_ATTACHMENT = [name for name in Attachment.__slots__ if name != "content"]
_OPERATOR = Operator.__slots__
_of_operator: Callable[[Any], tuple[Any, ...]] = attrgetter(*_OPERATOR)


def dumps(value: Any) -> str:
    """JSON as ASCII: PostgreSQL and SQLite store any text of it alike."""
    return "null" if value is None else _encode(value)


def loads(text: str | None) -> Any:
    """The value of :func:`dumps`; None for None."""
    return None if text is None or text == "null" else _decode(text)[0]


def operator_to_json(operator: Operator | None) -> dict[str, Any] | None:
    return None if operator is None else dict(zip(_OPERATOR, _of_operator(operator), strict=True))


def operator_from_json(value: Mapping[str, Any] | None) -> Operator | None:
    if value is None:
        return None
    known: Iterable[Any] = map(value.get, _OPERATOR)
    return Operator(*known)


def operators_to_text(operators: Sequence[Operator]) -> str | None:
    return dumps(list(map(operator_to_json, operators))) if operators else None


def operators_from_text(text: str | None) -> tuple[Operator, ...]:
    return tuple(filter(None, map(operator_from_json, loads(text) or ())))


def contact_to_json(contact: Contact | None) -> dict[str, Any] | None:
    if contact is None:
        return None
    newer = {"whatsapp": contact.whatsapp, "extension": contact.extension}
    # What is new is left out when it is empty: an older process that is still running does not know it.
    return {"phone": contact.phone, "email": contact.email, **{name: one for name, one in newer.items() if one}}


def contact_from_json(value: dict[str, Any] | None) -> Contact | None:
    return None if value is None else Contact(**value)


def parts_to_json(attachments: Sequence[Attachment], choices: Sequence[Choice] = ()) -> list[dict[str, Any]]:
    """What a message has beside its text. Choices stand among the files, which an older process takes them for."""
    offered = [{"choice": {name: getattr(one, name) for name in Choice.__slots__}} for one in choices]
    return [*map(attachment_to_json, attachments), *offered]


def parts_from_json(
    value: Sequence[Mapping[str, Any]] | None,
) -> tuple[tuple[Attachment, ...], tuple[Choice, ...]]:
    """The files and the choices of :func:`parts_to_json`."""
    parts = value or ()
    return (
        tuple(attachment_from_json(one) for one in parts if "choice" not in one),
        tuple(Choice(**one["choice"]) for one in parts if "choice" in one),
    )


def attachment_to_json(attachment: Attachment) -> dict[str, Any]:
    found = {name: getattr(attachment, name) for name in _ATTACHMENT}
    return found if attachment.is_voice else {name: found[name] for name in found if name != "is_voice"}


def attachment_from_json(value: Mapping[str, Any]) -> Attachment:
    known: dict[str, Any] = {name: value.get(name) for name in _ATTACHMENT}
    return Attachment(**known | {"is_voice": bool(value.get("is_voice"))})
