"""Botpress's Chat API (``packages/chat-api``): users by signed keys, conversations, messages, custom events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

from flask import Blueprint, request

from ...hubspot import strict_json
from . import bot
from .signals import send_signals
from .world import JSON, BotpressError, BotpressWorld, now, world

bp = Blueprint("chat", __name__, url_prefix="/chat/<webhook>")
FID = re.compile(r"[A-Za-z0-9_\-\\/]{1,70}")
PAGE = 20
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
    """The user of the ``x-user-key``: a JWT, HS256, signed with the encryption key."""
    key = request.headers.get("x-user-key", "")
    try:
        signed, _, signature = key.rpartition(".")
        wanted = hmac.digest(bot_world.encryption_key.encode(), signed.encode("ascii"), hashlib.sha256)
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


@bp.post("/users")
def create_user(**_: str) -> Any:
    """Refused: with an encryption key the host signs its users' keys."""
    raise BotpressError(401, "Unauthorized", "Users are created with their own keys")


@bp.post("/users/get-or-create")
def get_or_create_user(**_: str) -> Any:
    """Make the key's user, or change its name and the like."""
    bot_world = world()
    user_id, body = me(bot_world), body_of()
    user = bot_world.users.setdefault(user_id, {"id": user_id, "createdAt": now()})
    user |= {name: body[name] for name in ("name", "pictureUrl", "profile") if isinstance(body.get(name), str)}
    user["updatedAt"] = now()
    return {"user": user}


@bp.get("/users/me")
def get_user(**_: str) -> Any:
    """The key's user."""
    bot_world = world()
    return {"user": bot_world.users[known(bot_world)]}


@bp.post("/conversations")
def create_conversation(**_: str) -> Any:
    """A new conversation with the bot."""
    bot_world = world()
    user_id = known(bot_world)
    conversation_id = body_of().get("id") or bot_world.new_id("conv")
    if conversation_id in bot_world.conversations:
        raise BotpressError(409, "AlreadyExists", "the conversation exists")
    conversation = {"id": conversation_id, "createdAt": now(), "updatedAt": now()}
    bot_world.conversations[conversation_id] = conversation
    bot_world.owners[conversation_id] = {user_id}
    return {"conversation": conversation}


@bp.get("/conversations/<path:conversation_id>/messages")
def list_messages(conversation_id: str, **_: str) -> Any:
    """Newest first, a page at a time."""
    bot_world = world()
    conversation_of(bot_world, conversation_id, known(bot_world))
    found = [one for one in reversed(bot_world.messages) if one["conversationId"] == conversation_id]
    start = int(request.args.get("nextToken") or 0) if (request.args.get("nextToken") or "0").isdigit() else 0
    meta = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
    return {"messages": found[start : start + PAGE], "meta": meta}


@bp.get("/conversations/<path:conversation_id>")
def get_conversation(conversation_id: str, **_: str) -> Any:
    """One conversation."""
    bot_world = world()
    return {"conversation": conversation_of(bot_world, conversation_id, known(bot_world))}


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


def signal(bot_world: BotpressWorld, found: JSON) -> None:
    """Send any signal; for tests."""
    send_signals(bot_world, found)
