"""Messages' payloads: what each type must have, and their two spellings, the Chat API's and the Runtime API's.

Sources: docs/botpress.rst (HITL interface; Chat API calls). Further fields are let through, as Botpress does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .world import JSON, BotpressError

Rule = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _one_of(*wanted: str) -> Rule:
    return lambda value: isinstance(value, str) and value in wanted


def _list_of(rule: Rule) -> Rule:
    return lambda value: isinstance(value, list) and all(rule(one) for one in value)


def _fields(needed: Mapping[str, Rule], optional: Mapping[str, Rule] | None = None) -> Rule:
    def holds(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and all(name in value and rule(value[name]) for name, rule in needed.items())
            and all(rule(value[name]) for name, rule in (optional or {}).items() if name in value)
        )

    return holds


_ACTION = _fields({"action": _one_of("postback", "url", "say"), "label": _text, "value": _text})
_CARD = _fields({"title": _text, "actions": _list_of(_ACTION)}, {"subtitle": _text, "imageUrl": _text})
_CHOICE = _fields({"text": _text, "options": _list_of(_fields({"label": _text, "value": _text}))})
_PARTS: dict[str, Rule] = {
    "text": _fields({"text": _text}),
    "markdown": _fields({"markdown": _text}),
    "image": _fields({"imageUrl": _text}),
    "audio": _fields({"audioUrl": _text}),
    "video": _fields({"videoUrl": _text}),
    "file": _fields({"fileUrl": _text}, {"title": _text}),
    "location": _fields({"latitude": _number, "longitude": _number}, {"address": _string, "title": _string}),
}
"""The types that a bloc may have as its items."""
_TYPES: dict[str, Rule] = _PARTS | {
    "card": _CARD,
    "carousel": _fields({"items": _list_of(_CARD)}),
    "choice": _CHOICE,
    "dropdown": _CHOICE,
}


def _typed(value: Any, types: Mapping[str, Rule]) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in types and types[kind](value)


def check_chat(payload: Any) -> None:
    """Check a payload as the Chat API takes it, with its ``type`` within."""
    is_bloc = isinstance(payload, dict) and payload.get("type") == "bloc"
    items = _list_of(lambda item: _typed(item, _PARTS))
    if not (items(payload.get("items")) if is_bloc else _typed(payload, _TYPES)):
        raise BotpressError.of_shape("body/payload must match a schema in anyOf")


def check_runtime(kind: Any, payload: Any) -> None:
    """Check a payload as the Runtime API takes it, with its ``type`` beside it, in the bloc's items too."""
    if not isinstance(kind, str) or not isinstance(payload, dict):
        wrong = "body/payload must be object" if isinstance(kind, str) else "body/type must be string"
        raise BotpressError.of_shape(wrong)
    if kind == "bloc":
        items = payload.get("items")
        good = isinstance(items, list) and all(isinstance(one, dict) and _typed(flat(one), _PARTS) for one in items)
    elif kind in _TYPES:
        good = _TYPES[kind](payload)
    else:
        raise BotpressError(400, "InvalidPayload", "the channel knows no messages of this type")
    if not good:
        raise BotpressError(400, "InvalidPayload", f"the payload is none of a message of type {kind}")


def flat(one: JSON) -> JSON:
    """``{type, payload: {…}}`` as ``{type, …}``."""
    within = one.get("payload")
    return {"type": one.get("type"), **(within if isinstance(within, dict) else {})}


def to_chat(kind: str, payload: JSON) -> JSON:
    """A payload of the Runtime API in the Chat API's spelling."""
    given = {name: value for name, value in payload.items() if name != "metadata"}
    if kind == "bloc":
        given["items"] = [flat(one) for one in payload["items"]]
    return {"type": kind, **given}


def to_runtime(payload: JSON) -> tuple[str, JSON]:
    """A payload of the Chat API in the Runtime API's spelling: its type, and the rest."""
    rest = {name: value for name, value in payload.items() if name != "type"}
    if payload["type"] == "bloc":
        rest["items"] = [
            {"type": one["type"], "payload": {name: value for name, value in one.items() if name != "type"}}
            for one in payload["items"]
        ]
    return payload["type"], rest


def as_chat(message: JSON) -> JSON:
    """A message as the Chat API shows it."""
    names = ("id", "createdAt", "userId", "conversationId", "metadata")
    shown = {name: message[name] for name in names if name in message}
    return {**shown, "payload": to_chat(message["type"], message["payload"])}


def as_runtime(message: JSON) -> JSON:
    """A message as the Runtime API shows it."""
    shown = {name: value for name, value in message.items() if name != "metadata"}
    if "metadata" in message:
        shown["payload"] = {**message["payload"], "metadata": message["metadata"]}
    return shown
