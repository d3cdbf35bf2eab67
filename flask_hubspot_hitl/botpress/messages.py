"""Turn Botpress's message types into text and files for the agent, and an agent's message into Botpress's types.

Pure functions. Source of the types and their fields: docs/botpress.rst (Chat API calls; Runtime calls).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..domain import Attachment, Message
from ..hubspot.text import scrub

FILE_HOSTS = ("botpress.cloud", "bpcontent.cloud")
"""Hosts where Botpress keeps files; their subdomains too."""
MEDIA = {"image": "imageUrl", "audio": "audioUrl", "video": "videoUrl", "file": "fileUrl"}
"""The field of each media type that has the file's URL."""
UNKNOWN_LIMIT = 500
"""Characters that are shown of a message whose type nobody knows."""
_TELLTALE = {
    **{key: kind for kind, key in MEDIA.items()},
    "markdown": "markdown",
    "latitude": "location",
    "options": "choice",
    "items": "bloc",
    "actions": "card",
    "text": "text",
}


@dataclass(frozen=True, slots=True)
class Readable:
    """An agent's view of one Botpress message. Never empty: there is text, or a file."""

    text: str = field(repr=False)
    files: tuple[Attachment, ...] = ()
    """By their URL; what can be fetched of them is sent as a file, the others as links."""


def type_of(payload: Mapping[str, Any]) -> str:
    """Return a payload's type: its ``type`` field, else told by its other fields; "" when nothing tells."""
    kind = payload.get("type")
    if isinstance(kind, str) and kind:
        return kind
    if "options" in payload or "actions" in payload:
        return "choice" if "options" in payload else "card"
    return next((name for key, name in _TELLTALE.items() if key in payload), "")


def to_agent(payload: Mapping[str, Any]) -> Readable:
    """Turn a Botpress payload (type inside, bloc items flat or nested) into text and files; nothing is dropped."""
    lines: list[str] = []
    files: list[Attachment] = []
    for part in _parts(payload, 0):
        if isinstance(part, Attachment):
            files.append(part)
        else:
            lines.append(part)
    text = scrub("\n".join(lines)).strip()
    if not text and not files:
        text = _unknown(payload)
    return Readable(text, tuple(files))


def _parts(payload: Mapping[str, Any], depth: int) -> Iterator[str | Attachment]:
    kind = type_of(payload)
    if kind in MEDIA and _text(payload, MEDIA[kind]):
        yield _remote(kind, _text(payload, MEDIA[kind]), _text(payload, "title"))
    elif kind == "text" and _text(payload, "text"):
        yield _text(payload, "text")
    elif kind == "markdown" and (_text(payload, "markdown") or _text(payload, "text")):
        yield _text(payload, "markdown") or _text(payload, "text")
    elif kind == "location" and "latitude" in payload:
        yield _location(payload)
    elif kind in ("choice", "dropdown", "single-choice"):
        yield from filter(None, [_text(payload, "text"), *map(_option, _list(payload, "options"))])
    elif kind == "card":
        yield from _card(payload)
    elif kind in ("carousel", "bloc") and depth < 3 and _list(payload, "items"):
        for number, item in enumerate(_list(payload, "items")):
            nested = item.get("payload")
            inner = {**nested, "type": item.get("type")} if isinstance(nested, Mapping) else item
            if kind == "carousel":
                yield from ["", *_card(inner)] if number else _card(inner)
            else:
                yield from _parts(inner, depth + 1)
    else:
        yield from _of_no_known_type(payload)


def _of_no_known_type(payload: Mapping[str, Any]) -> Iterator[str | Attachment]:
    """Yield what can be told of a message by its fields, and else its first characters."""
    if text := _text(payload, "text"):
        yield text
    media = [(kind, url) for kind, key in MEDIA.items() if (url := _text(payload, key))]
    yield from (_remote(kind, url, _text(payload, "title")) for kind, url in media)
    if not text and not media:
        yield _unknown(payload)


def _card(card: Mapping[str, Any]) -> Iterator[str | Attachment]:
    yield from filter(None, [_text(card, "title"), _text(card, "subtitle")])
    if _text(card, "imageUrl"):
        yield _remote("image", _text(card, "imageUrl"), _text(card, "title"))
    for action in _list(card, "actions"):
        label, value = _text(action, "label"), _text(action, "value")
        yield f"• {label or value}: {value}" if action.get("action") == "url" and value != label else _option(action)


def _remote(kind: str, url: str, title: str) -> Attachment:
    return Attachment(name=title or None, content_type=None if kind == "file" else f"{kind}/*", url=url)


def _option(option: Mapping[str, Any]) -> str:
    label, value = _text(option, "label"), _text(option, "value")
    return f"• {label} ({value})" if label and value and label != value else f"• {label or value}"


def _location(payload: Mapping[str, Any]) -> str:
    place = f"{payload.get('latitude')},{payload.get('longitude')}"
    names = ", ".join(filter(None, [_text(payload, "title"), _text(payload, "address")]))
    return f"[ Location{': ' + names if names else ''} ] https://www.google.com/maps?q={place}"


def _unknown(payload: Mapping[str, Any]) -> str:
    shown = json.dumps(dict(payload), ensure_ascii=False, default=str)
    return f"[ {type_of(payload) or 'unknown'} message: {shown[:UNKNOWN_LIMIT]} ]"


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _list(payload: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = payload.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def to_botpress(message: Message, *, prefix: str = "", with_buttons: bool = True) -> list[dict[str, Any]]:
    """Turn an agent's message into Botpress payloads, in order: its text and choices, then each file by its type.

    ``prefix`` (the agent's name) goes before the text. A file without an address is told in the text already. Links
    among the choices are lines of the text, because Botpress's options are answers; without a text the choices are
    lines, too, because a ``choice`` needs one.

    :param with_buttons: False: all choices are lines.
    """
    payloads: list[dict[str, Any]] = []
    answers = [one for one in message.choices if not one.is_link and with_buttons and message.text.strip()]
    others = [one for one in message.choices if one not in answers]
    text = replace(message, choices=tuple(others)).text_with_choices
    if answers:
        options = [{"label": one.label, "value": one.value} for one in answers]
        payloads.append({"type": "choice", "text": f"{prefix}{text}", "options": options})
    elif text.strip():
        payloads.append({"type": "text", "text": f"{prefix}{text}"})
    for attachment in message.attachments:
        if attachment.url:
            payloads.append(_file(attachment, attachment.url))
    return payloads or [{"type": "text", "text": f"{prefix}[empty message]"}]


def without_buttons(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``choice`` as a text with a line for each option, for a channel that shows no buttons."""
    lines = [_text(payload, "text"), *map(_option, _list(payload, "options"))]
    rest = {name: value for name, value in payload.items() if name not in ("type", "text", "options")}
    return {**rest, "type": "text", "text": "\n".join(filter(None, lines))}


def _file(attachment: Attachment, url: str) -> dict[str, Any]:
    kind = (attachment.content_type or "").partition("/")[0]
    kind = kind if kind in MEDIA else "file"
    named = {"title": attachment.name} if attachment.name else {}
    return {"type": kind, MEDIA[kind]: url, **named}
