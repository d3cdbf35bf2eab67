"""Custom channels API: publishing messages and their receipts, in v3, 2026-03 and 2026-09.

Source: docs/hubspot.rst (Publishing).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from ..behaviour import people, publishing, shapes, threads
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, Message, now_ms
from .channels import BASES, IDENTIFIER, READ, WRITE, caller
from .wire import check, find_channel, json_body, moment_ms, on, without_nulls

bp = Blueprint("channel_messages", __name__)

PARTICIPANT = {"deliveryIdentifier!": IDENTIFIER, "name": str}
EGG = {
    "text!": str,
    "messageDirection!": frozenset({"INCOMING", "OUTGOING"}),
    "channelAccountId!": str,
    "senders!": [PARTICIPANT],
    "recipients": [PARTICIPANT],
    "timestamp": str,
    "attachments": [{"type!": str}],
    "richText": str,
    "integrationThreadId": str,
    "integrationIdempotencyId": str,
    "inReplyToId": str,
    "associateWithContactId": int,
    "preResolvedContacts": {"contacts!": [{"contactVid!": int, "contactPropertiesLeadingToMatch!": [str]}]},
}
PLACE = frozenset({"HOME", "WORK"})
QUICK_REPLIES = {"quickReplies!": [{"value!": str, "valueType!": frozenset({"TEXT", "URL"}), "label": str}]}
PROFILE = {
    "addresses!": [dict.fromkeys(("street", "city", "state", "zip", "country", "countryCode"), str) | {"type": PLACE}],
    "emails!": [{"email!": str, "type": PLACE}],
    "phones!": [{"phone!": str, "type": frozenset({"CELL", "HOME", "MAIN", "WORK"})}],
    "urls!": [{"url!": str, "type": PLACE}],
    "name": dict.fromkeys(("firstName", "middleName", "lastName", "prefix", "suffix"), str),
    "org": dict.fromkeys(("company", "department", "title"), str),
}
MEDIA = frozenset(
    {"ARTICLE", "AUDIO", "CAROUSEL", "DOCUMENT", "GIF", "LINK", "NONE", "PHOTO", "POLL", "STORY", "VIDEO"}
)
MEDIA_TEXTS = ("id", "description", "mediaTitle", "mediaUrl", "mediaUrlString", "thumbnailUrl")
# what may be attached when publishing: docs/hubspot.rst (Attachments)
ATTACHMENTS: JSON = {
    "FILE": {
        "fileId!": str,
        "fileUsageType": frozenset({"AUDIO", "IMAGE", "OTHER", "STICKER", "VOICE_RECORDING"}),
    },
    "LOCATION": {"latitude!": float, "longitude!": float, "name": str, "address": str, "url": str},
    "CONTACT": {"contactProfile!": PROFILE},
    "QUICK_REPLIES": QUICK_REPLIES,
    "MESSAGE_HEADER": {"fileId": int, "text": str},
    "SOCIAL_MEDIA_METADATA": {
        "socialMetadata!": {"mediaType!": MEDIA, **dict.fromkeys(MEDIA_TEXTS, str)},
    },
    "UNSUPPORTED_CONTENT": {},
}


def stored_attachments(sim: Simulation, portal_id: str, items: list[JSON]) -> list[JSON]:
    """Check attachments and turn them into what a read answers. Raises ApiError (400), also for an unknown file."""
    answer = []
    for number, item in enumerate(items):
        where = f"attachments[{number}]"
        kind = item["type"]
        if kind not in ATTACHMENTS:
            raise ApiError.invalid(where, f"the type must be one of {sorted(ATTACHMENTS)}")
        check(item, ATTACHMENTS[kind], where)
        names = {"type", *(name.rstrip("!") for name in ATTACHMENTS[kind])}
        kept = without_nulls({key: value for key, value in item.items() if key in names})
        if kind == "FILE":
            stored = sim.world.files.get(item["fileId"])
            if stored is None or stored.portal_id != portal_id or stored.archived:
                raise ApiError.invalid(f"{where}.fileId", "no such file")
            kept.setdefault("fileUsageType", shapes.usage_type(stored.content_type))
        if kind == "QUICK_REPLIES":
            kept |= {"allowMultiSelect": False, "allowUserInput": True}
        answer.append(kept)
    return answer


@on(bp, "POST", BASES, "/<channel_id>/messages")
def publish(channel_id: str) -> Any:
    """Publish a message, as liberally as HubSpot: ``timestamp``, ``recipients`` and ``attachments`` may be missing."""
    sim = current()
    made = caller(sim, *WRITE)
    channel = find_channel(sim.world, made.app_id, channel_id)
    body = json_body(EGG)
    if not body["senders"]:
        raise ApiError.invalid("senders", "must not be empty")
    for where in ("senders", "recipients"):
        for participant in body.get(where) or []:
            people.check_identifier(participant["deliveryIdentifier"], where)
    account = publishing.check_account(sim, made, channel, body["channelAccountId"])
    first = publishing.repeated(sim, account, body)
    if first is not None:
        if sim.chaos.repeated_publish == "conflict":
            raise ApiError(409, "CONFLICT", "A message with this integrationIdempotencyId was published already")
        return shapes.message(sim, first, of_channel=True), 201 if sim.chaos.repeated_publish == "created" else 200
    publishing.check_size(sim, body)
    body["attachments"] = stored_attachments(sim, made.portal_id, body.get("attachments") or [])
    stamp = body.get("timestamp")
    created_ms = now_ms() if stamp is None else moment_ms(stamp, "timestamp")
    message = publishing.publish(sim, made, account, body, created_ms)
    return shapes.message(sim, message, of_channel=True), 201


def find_message(sim: Simulation, portal_id: str, channel_id: str, message_id: str) -> Message:
    """Return a message of the channel in this portal, else answer 404."""
    inner = message_id if sim.chaos.feed_ids == "same" else message_id.removeprefix("ch")[::-1]
    found = sim.world.message(inner)
    if found is None or found[0].portal_id != portal_id or found[1].extra.get("channelId") != channel_id:
        raise ApiError.missing("Message")
    return found[1]


@on(bp, "GET", BASES, "/<channel_id>/messages/<message_id>")
def get_message(channel_id: str, message_id: str) -> Any:
    sim = current()
    made = caller(sim, *READ)
    channel = find_channel(sim.world, made.app_id, channel_id)
    return shapes.message(sim, find_message(sim, made.portal_id, channel.id, message_id), of_channel=True)


@on(bp, "PATCH", BASES, "/<channel_id>/messages/<message_id>")
def update_message(channel_id: str, message_id: str) -> Any:
    sim = current()
    made = caller(sim, *WRITE)
    channel = find_channel(sim.world, made.app_id, channel_id)
    body = json_body({"statusType!": frozenset({"SENT", "FAILED", "READ"}), "errorMessage": str})
    message = find_message(sim, made.portal_id, channel.id, message_id)
    threads.set_message_status(message, body["statusType"], body.get("errorMessage"))
    return shapes.message(sim, message, of_channel=True)
