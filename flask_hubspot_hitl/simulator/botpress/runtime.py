"""Botpress's Runtime API as a bot sees it: its messages, users, conversations, and actions of integrations."""

from __future__ import annotations

import hmac
from typing import Any

from flask import Blueprint, request

from .chat import body_of
from .world import JSON, BotpressError, now, world

bp = Blueprint("runtime", __name__, url_prefix="/v1/chat")
PAGE = 20


@bp.before_request
def check_token() -> None:
    """A bot access key and the bot's id, on every call."""
    bot_world = world()
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {bot_world.token}".encode()):
        raise BotpressError(401, "Unauthorized", "the token is missing or wrong")
    if request.headers.get("x-bot-id") != bot_world.bot_id:
        raise BotpressError(403, "Forbidden", "the token is not of this bot")


@bp.post("/messages")
def create_message() -> Any:
    """The bot sends a message to the user's channel."""
    bot_world, body = world(), body_of()
    for name in ("type", "payload", "userId", "conversationId", "tags"):
        if name not in body:
            raise BotpressError(400, "InvalidPayload", f"body must have required property '{name}'")
    if body["userId"] != bot_world.bot_id:
        raise BotpressError(400, "InvalidPayload", "a bot sends as itself")
    message: JSON = {name: body[name] for name in ("type", "payload", "userId", "conversationId", "tags")}
    message |= {"id": bot_world.new_id("msg"), "createdAt": now(), "updatedAt": now(), "direction": "outgoing"}
    bot_world.messages.append(message)
    return {"message": message}, 201


@bp.get("/messages")
def list_messages() -> Any:
    """Messages of a conversation, newest first."""
    conversation_id = request.args.get("conversationId")
    found = [
        one for one in reversed(world().messages) if one["conversationId"] == conversation_id and "direction" in one
    ]
    start = int(request.args["nextToken"]) if (request.args.get("nextToken") or "").isdigit() else 0
    meta = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
    return {"messages": found[start : start + PAGE], "meta": meta}


@bp.post("/actions")
def call_action() -> Any:
    """An integration's action: webchat makes users with the agent's face, nothing else is known."""
    bot_world, body = world(), body_of()
    if body.get("type") != "webchat:getOrCreateUser" or not isinstance(body.get("input"), dict):
        raise BotpressError(404, "MethodNotFound", "there is no such action")
    user_id = bot_world.new_id("user")
    bot_world.users[user_id] = {"id": user_id, "createdAt": now(), "updatedAt": now(), **body["input"]}
    return {"output": {"userId": user_id}, "meta": {"cached": False}}
