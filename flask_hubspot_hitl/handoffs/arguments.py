"""Check single values that a host gives to the verbs, before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from ..config import PREFIX
from ..domain import Attachment
from ..hubspot import fields
from ..hubspot.text import clean_name, guess_content_type, scrub

ID_LIMIT = 500
"""Characters, at most, of a conversation id or message id."""


def identifier(name: str, value: object) -> str:
    """Return an id of the host's: any text that a database can hold, up to :data:`ID_LIMIT` characters."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    text = str(value)
    if not text or len(text) > ID_LIMIT or scrub(text) != text:
        raise ValueError(f"{name} must be 1 to {ID_LIMIT} characters, without NUL or lone surrogates")
    return text


def agent(value: object) -> str | None:
    """Return an agent's actor id; None for None."""
    try:
        return fields.actor(value)
    except ValueError:
        raise ValueError("assign_to must be an agent's actor id, such as A-987, or a user's id") from None


def json_object(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a host's facts, which must be what JSON can hold."""
    try:
        found = dict(attributes or {})
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise TypeError(
            "attributes must be a mapping of what JSON can hold: text, finite numbers, True, False, None, and lists "
            "and mappings of these"
        ) from None
    return found


def clean(value: object) -> str | None:
    """Return a text without what databases can't hold; None when nothing is left."""
    return None if value is None else scrub(str(value)).strip() or None


def file(attachment: Attachment, limit: int) -> tuple[Attachment, bytes | None]:
    """Return a host's attachment with a safe name, and its bytes; None when it is to be fetched."""
    if not isinstance(attachment, Attachment):
        kind = type(attachment).__name__
        raise TypeError(f"an attachment must be an Attachment, not {kind}: write Attachment(name=…, content=…)")
    for part in ("name", "content_type", "url"):
        value = getattr(attachment, part)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"an attachment's {part} must be a str, not {type(value).__name__}")
    content, spoken = attachment.content, bool(attachment.is_voice)
    if content is None and attachment.url:
        named = clean_name(attachment.name) if attachment.name else None
        url = scrub(attachment.url)
        return Attachment(name=named, content_type=attachment.content_type, url=url, is_voice=spoken), None
    if content is None:
        raise ValueError("an attachment needs 'content' (bytes or a binary file object) or 'url'")
    data = bytes(content) if isinstance(content, bytes | bytearray | memoryview) else _read_all(content, limit)
    if len(data) > limit:
        raise ValueError(f"an attachment is larger than {PREFIX}MAX_ATTACHMENT_BYTES ({limit} bytes)")
    name = clean_name(attachment.name, content_type=attachment.content_type)
    content_type = attachment.content_type or guess_content_type(name)
    return Attachment(name=name, content_type=content_type, size=len(data), is_voice=spoken), data


def _read_all(file: IO[bytes], limit: int) -> bytes:
    """Read a file object to its end, or to one byte beyond ``limit``: a pipe gives less than it is asked for."""
    if not callable(getattr(file, "read", None)):
        raise TypeError(f"an attachment's content must be bytes or a binary file object, not {type(file).__name__}")
    parts: list[bytes] = []
    wanted = limit + 1
    while wanted > 0:
        part = file.read(wanted)
        if isinstance(part, str):
            raise TypeError("an attachment's file object must be opened in binary mode, such as open(path, 'rb')")
        if part is None:
            raise ValueError("an attachment's file object has nothing to read just now: it must not be non-blocking")
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError(f"an attachment's file object must give bytes, not {type(part).__name__}")
        if not part:
            break
        parts.append(bytes(part))
        wanted -= len(parts[-1])
    return b"".join(parts)
