"""Botpress's Chat API (``packages/chat-api``): users' signed keys, messages, custom events, and listening to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Any

from flask import Blueprint, Response, request

from ...hubspot import strict_json
from . import bot
from .signals import send_signals
from .world import JSON, BotpressError, BotpressWorld, now, world

bp = Blueprint("chat", __name__, url_prefix="/chat/<webhook>")
FID = re.compile(r"[A-Za-z0-9_\-\\/]{1,70}")
PAGE = 20
SHARED_KEY = "botpress-signs-the-keys-itself"
"""What signs users' keys while the integration has no encryption key."""
TYPES = frozenset(
    (
        "text",
        "markdown",
        "image",
        "audio",
        "video",
        "file",
        "location",
        "card",
        "carousel",
        "choice",
        "dropdown",
        "bloc",
    )
)


@bp.url_value_preprocessor
def check_webhook(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """The webhook id in the path is the address of the bot's integration."""
    if values is not None and values.pop("webhook") != world().webhook_id:
        raise BotpressError(404, "ResourceNotFound", "there is no such bot")


def body_of() -> JSON:
    """The request's JSON object."""
    try:
        value = strict_json.loads(request.get_data() or b"{}")
    except ValueError:
        raise BotpressError(400, "InvalidPayload", "Invalid JSON body") from None
    if not isinstance(value, dict):
        raise BotpressError(400, "InvalidPayload", "body must be object")
    return value


def me(bot_world: BotpressWorld) -> str:
    """The user of the ``x-user-key``: a JWT, HS256, signed with the encryption key (Botpress's own without one)."""
    key = request.headers.get("x-user-key", "")
    signing = bot_world.encryption_key if bot_world.switches.personal_keys else SHARED_KEY
    try:
        signed, _, signature = key.rpartition(".")
        wanted = hmac.digest(signing.encode(), signed.encode("ascii"), hashlib.sha256)
        given = base64.urlsafe_b64decode(signature + "==")
        head, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split("."))
        user_id = payload["id"]
    except (ValueError, KeyError, TypeError):
        raise BotpressError(401, "Unauthorized", "Invalid user key") from None
    if head.get("alg") != "HS256" or not hmac.compare_digest(given, wanted) or not isinstance(user_id, str):
        raise BotpressError(401, "Unauthorized", "Invalid user key")
    if not FID.fullmatch(user_id):
        raise BotpressError(400, "InvalidPayload", "the user id has characters that are not allowed")
    return user_id


def known(bot_world: BotpressWorld) -> str:
    """Like :func:`me`, for a user who exists."""
    user_id = me(bot_world)
    if user_id not in bot_world.users:
        raise BotpressError(404, "ResourceNotFound", "the user does not exist")
    return user_id


def conversation_of(bot_world: BotpressWorld, conversation_id: str, user_id: str) -> JSON:
    """A conversation that the user takes part in."""
    found = bot_world.conversations.get(conversation_id)
    if found is None:
        raise BotpressError(404, "ResourceNotFound", "the conversation does not exist")
    if user_id not in bot_world.owners[conversation_id]:
        raise BotpressError(403, "Forbidden", "you are not a participant")
    return found


@bp.get("/hello")
def hello(**_: str) -> Any:
    """Is it there?"""
    return "Hi", 200


@bp.get("/conversations/<path:conversation_id>/messages")
def list_messages(conversation_id: str, **_: str) -> Any:
    """Newest first, a page at a time."""
    bot_world = world()
    conversation_of(bot_world, conversation_id, known(bot_world))
    found = [one for one in reversed(bot_world.messages) if one["conversationId"] == conversation_id]
    start = int(request.args.get("nextToken") or 0) if (request.args.get("nextToken") or "0").isdigit() else 0
    meta = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
    return {"messages": found[start : start + PAGE], "meta": meta}


@bp.post("/messages")
def create_message(**_: str) -> Any:
    """The user says something; the bot answers through signals."""
    bot_world = world()
    user_id, body = known(bot_world), body_of()
    payload = body.get("payload")
    conversation_of(bot_world, str(body.get("conversationId")), user_id)
    if not isinstance(payload, dict) or payload.get("type") not in TYPES:
        raise BotpressError(400, "InvalidPayload", "body/payload must match a schema in anyOf")
    message = {
        "id": bot_world.new_id("msg"),
        "createdAt": now(),
        "userId": user_id,
        "conversationId": body["conversationId"],
        "payload": payload,
        **({"metadata": body["metadata"]} if isinstance(body.get("metadata"), dict) else {}),
    }
    bot_world.messages.append(message)
    bot.heard(bot_world, message)
    return {"message": message}


@bp.get("/messages/<message_id>")
def get_message(message_id: str, **_: str) -> Any:
    """One message."""
    return {"message": _message(world(), message_id)}


@bp.delete("/messages/<message_id>")
def delete_message(message_id: str, **_: str) -> Any:
    """Take a message of one's own back; listeners are told."""
    bot_world = world()
    user_id, message = known(bot_world), _message(bot_world, message_id)
    if message["userId"] != user_id:
        raise BotpressError(403, "Forbidden", "you are not the sender")
    bot_world.messages.remove(message)
    gone = {"id": message_id, "conversationId": message["conversationId"], "userId": user_id}
    send_signals(bot_world, {"type": "message_deleted", "data": gone})
    return {}


def _message(bot_world: BotpressWorld, message_id: str) -> JSON:
    user_id = known(bot_world)
    found = next((one for one in bot_world.messages if one["id"] == message_id), None)
    if found is None:
        raise BotpressError(404, "ResourceNotFound", "the message does not exist")
    conversation_of(bot_world, found["conversationId"], user_id)
    return found


@bp.post("/events")
def create_event(**_: str) -> Any:
    """A custom event for the bot."""
    bot_world = world()
    user_id, body = known(bot_world), body_of()
    conversation_of(bot_world, str(body.get("conversationId")), user_id)
    if not isinstance(body.get("payload"), dict):
        raise BotpressError(400, "InvalidPayload", "body/payload must be object")
    event = bot.custom_event(bot_world, body["conversationId"], body["payload"], user_id)
    bot.told(bot_world, event)
    return {"event": event}


@bp.get("/events/<event_id>")
def get_event(event_id: str, **_: str) -> Any:
    """One custom event."""
    bot_world = world()
    known(bot_world)
    if event_id not in bot_world.events:
        raise BotpressError(404, "ResourceNotFound", "the event does not exist")
    return {"event": bot_world.events[event_id]}


@bp.get("/conversations/<conversation_id>/listen")
def listen(conversation_id: str, **_: str) -> Any:
    """Server-sent events: every signal of the conversation from now on, and a ``ping`` when there is none."""
    bot_world = world()
    with bot_world.lock:
        conversation_of(bot_world, conversation_id, known(bot_world))
        heard: Queue[JSON] = Queue()
        bot_world.listeners.append((conversation_id, heard))
    ping_seconds = bot_world.switches.ping_seconds

    def frames() -> Iterator[str]:
        yield "{}"  # the answer's first body, which Botpress glues to what follows
        try:
            while True:
                try:
                    yield f"event: message\ndata: {json.dumps(heard.get(timeout=ping_seconds))}\n\n"
                except Empty:
                    yield "data: ping\n\n"
        finally:
            with bot_world.lock:
                bot_world.listeners.remove((conversation_id, heard))

    return Response(frames(), content_type="text/event-stream")
