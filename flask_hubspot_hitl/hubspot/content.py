"""Parse HubSpot's message objects, and write the texts that agents read.

Pure functions; no HTTP. Of ours it may import ``domain`` and its neighbours :mod:`.addresses`,
:mod:`.fields`, :mod:`.markup` and :mod:`.text`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ..domain import Attachment, Choice
from . import addresses, fields
from .markup import clean_html, html_to_text, pictures
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
_HUBSPOT = re.compile(
    r"(?:[a-z0-9-]+\.)*(?:hubspotusercontent(?:[0-9]{1,2}|-[a-z]{2}[0-9]{1,2})?\.net|hubspot\.(?:com|net))"
)
"""Hosts of the pictures that agents put into their text. Source: docs/hubspot.rst (Agent messages; Attachments)."""
PICTURES = 50
"""Pictures of one text, at most, that are told of."""
CHOICES = 50
"""Choices of one message, at most, that are more than a line of its text."""
_USAGE_TYPES = {"IMAGE": "image/*", "STICKER": "image/*", "AUDIO": "audio/*", "VOICE_RECORDING": "audio/*"}


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """One entry of a HubSpot thread (HubSpot OpenAPI, custom channels, ``PublicConversationsMessage``).

    ``text`` is empty only beside attachments, pictures or choices. ``truncated`` says that HubSpot keeps more of it
    under ``original-content``. ``pictures`` are those in the text that are no attachments, on hosts of HubSpot's.
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
    pictures: tuple[Attachment, ...]
    choices: tuple[Choice, ...]
    status_type: str | None
    truncated: bool


def parse_message(
    raw: Mapping[str, Any], *, own_hosts: Collection[str] = (), with_choices: bool = False
) -> ParsedMessage:
    """Return the facts of a message object as HubSpot sends it in a channel event or answers it.

    Every optional field may be missing or of the wrong type: :mod:`.fields` reads them.
    ``text`` is the agent's, verbatim but scrubbed;
    when blank it is made from the HTML; attachments that are no files follow as lines of text, and so do pictures in
    the text that are on foreign hosts.

    :param own_hosts: more hosts of HubSpot's: a stand-in's.
    :param with_choices: quick replies are choices; else they are a line of text, as are those that are not understood.
    :raises ValueError: when the id, the thread's id or the time can't be used.
    """
    sender = next(iter(fields.mappings(raw.get("senders"))), {})
    client = fields.mapping(raw.get("client"))
    status = raw.get("status")
    rich = raw.get("richText")
    html = clean_html(rich) if isinstance(rich, str) and rich.strip() else None
    text = raw.get("text")
    text = str(text) if isinstance(text, str | int | float) and not isinstance(text, bool) else ""
    body = scrub(text) if text.strip() else ""
    shown = pictures(rich) if isinstance(rich, str) else []
    inline, foreign = _sorted_out(shown[:PICTURES], own_hosts)
    lines: list[str] = []
    if not body and isinstance(rich, str):
        body = _with_pictures_told(html_to_text(rich), inline, foreign)
    else:
        lines = [_not_shown(one) for one in foreign]
    attachments: list[Attachment] = []
    choices: list[Choice] = []
    for item in fields.mappings(raw.get("attachments")):
        if with_choices and fields.word(item.get("type")) == "QUICK_REPLIES":
            offered, item = _choices(item, CHOICES - len(choices))
            choices += offered
            if not item:
                continue
        found = _attachment(item)
        if isinstance(found, Attachment):
            attachments.append(found)
        else:
            lines.append(found)
    body = "\n".join(filter(None, [body, *lines]))
    files = without_repeats(attachments, inline.values())
    if not body and not attachments and not files and not choices:
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
        pictures=files,
        choices=tuple(choices),
        status_type=fields.word(status if isinstance(status, str) else fields.mapping(status).get("statusType")),
        truncated=fields.word(raw.get("truncationStatus")) not in (None, "NOT_TRUNCATED"),
    )


def without_repeats(files: Iterable[Attachment], pictures: Iterable[Attachment]) -> tuple[Attachment, ...]:
    """Return those of the pictures that are none of the files: known by id, or by address without its signature."""
    seen = {key for one in files for key in _keys(one)}
    return tuple(one for one in pictures if seen.isdisjoint(_keys(one)))


def _keys(file: Attachment) -> set[str]:
    path = urlsplit(file.url).path if file.url else ""
    return {key for key in (path, file.file_id) if key}


def _sorted_out(shown: Iterable[str], own_hosts: Collection[str]) -> tuple[dict[str, Attachment], list[str]]:
    """Return the pictures that HubSpot has, by their addresses, and the addresses of the others."""
    inline: dict[str, Attachment] = {}
    foreign = []
    for source in shown:
        if not _is_hubspots(source, own_hosts):
            foreign.append(source)
        elif isinstance(found := _attachment({"type": "FILE", "url": source, "fileUsageType": "IMAGE"}), Attachment):
            inline[source] = found
    return inline, foreign


def _is_hubspots(source: str, own_hosts: Collection[str]) -> bool:
    if safe_url(source) is None:
        return False
    host = addresses.parse(addresses.spell(source)).host
    return host in own_hosts or _HUBSPOT.fullmatch(host) is not None


def _with_pictures_told(text: str, inline: Iterable[str], foreign: Iterable[str]) -> str:
    """Return the text of a message's HTML without the addresses of the pictures that come as files."""
    for source in inline:
        text = text.replace(f"[image: {source}]", " ")
    for source in foreign:
        text = text.replace(f"[image: {source}]" if source else "[image]", _not_shown(source))
    return "\n".join(re.sub(r"(?<=\S) {2,}", " ", line).rstrip() for line in text.split("\n")).strip()


def _not_shown(source: str) -> str:
    return f"[picture not shown: {source}]" if source else "[picture not shown]"


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
    facts: str | None = None,
) -> str:
    """Write the text that opens a handoff in HubSpot: its subject, the user, facts, and the conversation before."""
    who = ", ".join(part for part in (one_line(name), one_line(contact_line)) if part)
    about = [one_line(title), scrub(description or "").strip(), f"From: {who}" if who else ""]
    parts = ["\n".join(filter(None, about)) or "A user asks to talk to a person."]
    if facts:
        parts.append(scrub(facts))
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
        is_voice=fields.word(item.get("fileUsageType")) == "VOICE_RECORDING",
    )


def _choices(item: Mapping[str, Any], most: int) -> tuple[list[Choice], Mapping[str, Any]]:
    """Return quick replies as choices, and those that can't be any as an attachment of their own; {} without them."""
    found: list[Choice] = []
    others: list[Mapping[str, Any]] = []
    for one in fields.mappings(item.get("quickReplies")):
        choice = _choice(one)
        if choice is None or len(found) >= most:
            others.append(one)
        else:
            found.append(choice)
    return found, ({**item, "quickReplies": others} if others or not found else {})


def _choice(reply: Mapping[str, Any]) -> Choice | None:
    """Return a quick reply (``QuickReply``) as a choice; None without a value, or with an address not to be opened."""
    value = _words(reply.get("value"))
    is_link = fields.word(reply.get("valueType")) == "URL"
    if not value or (is_link and safe_url(value) is None):
        return None
    return Choice(_words(reply.get("label")) or value, value, is_link)


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
