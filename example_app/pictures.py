"""Pictures in the chat: shown from the page's own address, so that the page loads nothing from anywhere else."""

from __future__ import annotations

import re
from typing import Any

from flask import url_for

from flask_hubspot_hitl import Attachment, HITLError

from .extensions import hitl
from .store import Entry, File, get_store

NAMES = re.compile(r"\.(png|jpe?g|gif|webp)$", re.IGNORECASE)
KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


def line(entry: Entry) -> dict[str, Any]:
    """A line as the page reads it; beside each file that is called like a picture stands where to load it from."""
    shown = entry.to_json()
    for place, one in enumerate(shown["files"]):
        del one["file_id"]
        one["picture"] = url_for("chat.picture", number=entry.number, place=place) if NAMES.search(one["name"]) else ""
    return shown


def load(conversation_id: str, number: int, place: int) -> tuple[bytes, str] | None:
    """A picture's bytes and type, by its line's number and its place there; None when it can't be had or is none."""
    found = get_store().entries(conversation_id, after=number - 1)[:1]
    if not found or found[0].number != number or not 0 <= place < len(found[0].files):
        return None
    content = _content(conversation_id, found[0].files[place])
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), None)
    return (content, kind) if kind and (kind != "image/webp" or content[8:12] == b"WEBP") else None


def _content(conversation_id: str, one: File) -> bytes:
    """The user's own file from our store, an agent's from HubSpot; b"" when it can't be had."""
    own = get_store().kept(conversation_id, one.url.rpartition("/")[2])
    if own is not None:
        return own[1]
    try:
        file = Attachment(name=one.name, url=one.url or None, file_id=one.file_id or None)
        with hitl.open_attachment(conversation_id, file) as opened:
            return opened.read()
    except (HITLError, ValueError):
        return b""
