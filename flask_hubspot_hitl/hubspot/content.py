"""Parse HubSpot's message objects, and write the texts that agents read.

Pure functions; no HTTP. Of ours it may import ``domain`` and its neighbours :mod:`.addresses`,
:mod:`.fields`, :mod:`.markup` and :mod:`.text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ..domain import Attachment
from . import addresses, fields
from .markup import clean_html, html_to_text
from .text import clean_name, escape_text, guess_content_type, one_line, scrub

__all__ = [
    "ParsedMessage",
    "clean_html",
    "clean_name",
    "escape_text",
    "guess_content_type",
    "html_to_text",
    "parse_message",
    "parse_time",
    "render_first_message",
    "safe_url",
    "scrub",
]

_GATED = re.compile(r"/filemanager/api/v[0-9]+/files/([0-9]{1,19})/signed-url-redirect(?:[?]|$)", re.ASCII)
"""Source: docs/hubspot.rst (Attachments)."""
_USAGE_TYPES = {"IMAGE": "image/*", "STICKER": "image/*", "AUDIO": "audio/*", "VOICE_RECORDING": "audio/*"}


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """One entry of a HubSpot thread (HubSpot OpenAPI, custom channels, ``PublicConversationsMessage``).

    ``text`` is empty only beside attachments. ``truncated`` says that HubSpot keeps more of it under
    ``original-content``.
    """

    message_id: str
    thread_id: str
    channel_id: str | None
    channel_account_id: str | None
    created_at_ms: int
    created_by: str | None
    sender_actor_id: str | None
    sender_name: str | None = field(repr=False)
    direction: str | None
    type: str
    client_type: str | None
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    attachments: tuple[Attachment, ...]
    status_type: str | None
    truncated: bool


def parse_message(raw: Mapping[str, Any]) -> ParsedMessage:
    """Return the facts of a message object as HubSpot sends it in a channel event or answers it.

    Every optional field may be missing or of the wrong type: :mod:`.fields` reads them.
    ``text`` is the agent's, verbatim but scrubbed;
    when blank it is made from the HTML; attachments that are no files follow as lines of text.
    Raises ``ValueError`` when the id, the thread's id or the time can't be used.
    """
    sender = next(iter(fields.mappings(raw.get("senders"))), {})
    client = fields.mapping(raw.get("client"))
    status = raw.get("status")
    rich = raw.get("richText")
    html = clean_html(rich) if isinstance(rich, str) and rich.strip() else None
    text = raw.get("text")
    text = str(text) if isinstance(text, str | int | float) and not isinstance(text, bool) else ""
    body = scrub(text) if text.strip() else ""
    if not body and isinstance(rich, str):
        body = html_to_text(rich)
    attachments: list[Attachment] = []
    lines: list[str] = []
    for item in fields.mappings(raw.get("attachments")):
        found = _attachment(item)
        if isinstance(found, Attachment):
            attachments.append(found)
        else:
            lines.append(found)
    body = "\n".join(filter(None, [body, *lines]))
    if not body and not attachments:
        body = "[empty message]"
    return ParsedMessage(
        message_id=_needed(fields.name(raw.get("id"), 200), "message id"),
        thread_id=_needed(fields.name(raw.get("conversationsThreadId"), 200), "thread id"),
        channel_id=fields.name(raw.get("channelId")),
        channel_account_id=fields.name(raw.get("channelAccountId")),
        created_at_ms=parse_time(raw.get("createdAt")),
        created_by=_actor(raw.get("createdBy")),
        sender_actor_id=_actor(sender.get("actorId")),
        sender_name=fields.text(sender.get("name")),
        direction=fields.word(raw.get("direction")),
        type=fields.word(raw.get("type")) or "MESSAGE",
        client_type=fields.word(client.get("clientType")),
        text=body,
        html=html or None,
        attachments=tuple(attachments),
        status_type=fields.word(status if isinstance(status, str) else fields.mapping(status).get("statusType")),
        truncated=fields.word(raw.get("truncationStatus")) not in (None, "NOT_TRUNCATED"),
    )


def parse_time(value: object) -> int:
    """Return a time of HubSpot's in epoch milliseconds (:func:`.fields.moment`); ``ValueError`` for anything else."""
    found = fields.moment(value)
    if found is None:
        raise ValueError("the time is missing, can't be read, or is out of range")
    return found


def render_first_message(
    name: str | None,
    title: str | None,
    description: str | None,
    contact_line: str | None = None,
    transcript: str | None = None,
) -> str:
    """Write the text that opens a handoff in HubSpot: its subject, the user, and the conversation before."""
    who = ", ".join(part for part in (one_line(name), one_line(contact_line)) if part)
    about = [one_line(title), scrub(description or "").strip(), f"From: {who}" if who else ""]
    parts = ["\n".join(filter(None, about)) or "A user asks to talk to a person."]
    if transcript and transcript.strip():
        parts.append(f"Conversation so far:\n{scrub(transcript).strip()}")
    return "\n\n".join(parts)


def _attachment(item: Mapping[str, Any]) -> Attachment | str:
    """Return a file as an ``Attachment``, anything else as a readable line."""
    kind = fields.word(item.get("type")) or "unknown"
    if kind != "FILE":
        return f"[{_describe(kind, item)}]"
    url = safe_url(item.get("url"))
    file_id = fields.name(item.get("fileId"), 200)
    if url is not None and (gated := _GATED.search(url)) is not None:
        url, file_id = None, file_id or gated[1]  # without a token it ends at a log-in page, with status 200
    usage = _USAGE_TYPES.get(fields.word(item.get("fileUsageType")) or "")
    given = fields.text(item.get("name")) or (unquote(urlsplit(url).path) if url else None)
    name = clean_name(given, usage.partition("/")[0] if usage else "file")
    if url is None and file_id is None:
        return f"[file that can't be reached: {name}]"
    return Attachment(
        name=name,
        content_type=guess_content_type(name) or usage,
        size=fields.number(item.get("size")),
        url=url,
        file_id=file_id,
    )


def _describe(kind: str, item: Mapping[str, Any]) -> str:
    """Describe an attachment that is no file, in words, by HubSpot's ``kind`` of it (OpenAPI, custom channels)."""
    match kind:
        case "LOCATION":
            place = [_words(item.get(key)) for key in ("name", "address", "latitude", "longitude", "url")]
            return _labelled("location", place)
        case "CONTACT":
            profile = fields.mapping(item.get("contactProfile"))
            names = fields.mapping(profile.get("name"))
            full = " ".join(filter(None, (_words(names.get(key)) for key in ("firstName", "lastName"))))
            more = [
                _words(entry.get(key))
                for group, key in (("phones", "phone"), ("emails", "email"), ("urls", "url"))
                for entry in fields.mappings(profile.get(group))
            ]
            return _labelled("contact", [full, *more])
        case "QUICK_REPLIES":
            replies = fields.mappings(item.get("quickReplies"))
            return _labelled("choices", [_words(r.get("label")) or _words(r.get("value")) for r in replies])
        case "MESSAGE_HEADER":
            return _labelled("header", [_words(item.get("text"))])
        case "SOCIAL_MEDIA_METADATA":
            media = fields.mapping(item.get("socialMetadata"))
            what = _words(media.get("mediaType")).lower()
            link = _words(media.get("mediaUrl")) or _words(media.get("mediaUrlString"))
            return _labelled(
                f"shared {what or 'post'}",
                [_words(media.get("mediaTitle")), _words(media.get("description")), link],
            )
        case "WHATSAPP_TEMPLATE_METADATA":
            return "WhatsApp template"
        case "UNSUPPORTED_CONTENT":
            return "content that can't be shown here"
    return f"attachment of type {re.sub('[^A-Za-z0-9_]', '', kind)[:40] or 'unknown'}"


def _labelled(label: str, parts: Iterable[str]) -> str:
    listed = ", ".join(part for part in parts if part)
    return f"{label}: {listed}" if listed else label


def safe_url(value: object) -> str | None:
    """Return ``value`` if it is an https URL (or an http one of this machine), else None."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return None
    try:
        address = addresses.parse(addresses.spell(value))
    except addresses.AddressRefused:
        return None
    return value if address.scheme == "https" or address.is_loopback else None


def _needed(found: str | None, what: str) -> str:
    if found is None:
        raise ValueError(f"the message has no usable {what}")
    return found


def _actor(value: object) -> str | None:
    try:
        return fields.actor(value)
    except ValueError:
        return None


def _words(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return one_line(value) if isinstance(value, str) else ""
