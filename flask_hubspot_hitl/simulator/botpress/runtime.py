"""Botpress's Runtime API as a bot sees it: its messages, users, conversations, and actions of integrations."""

from __future__ import annotations

import hmac
from typing import Any

from flask import Blueprint, Response, request

from .chat import page_of
from .payloads import as_runtime, check_runtime
from .signals import message_created, send_signals
from .world import JSON, BotpressError, body_of, check_tags, check_texts, existing, now, world

bp = Blueprint("runtime", __name__, url_prefix="/v1/chat")
LIMIT = 100
"""Calls a second."""


@bp.before_request
def check_token() -> None:
    """A bot access key and the bot's id, on every call."""
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {world.token}".encode()):
        raise BotpressError(401, "Unauthorized", "the token is missing or wrong")
    if request.headers.get("x-bot-id") != world.bot_id:
        raise BotpressError(403, "Forbidden", "the token is not of this bot")


@bp.before_request
def count() -> None:
    """Too many calls, when the switch says so."""
    switches = world.switches
    if switches.runtime_429 > 0:
        switches.runtime_429 -= 1
        raise BotpressError(429, "RateLimited", "too many requests", headers=_limits(0))


@bp.after_request
def tell_limits(answer: Response) -> Response:
    """Every answer tells how many calls are left."""
    for name, value in _limits(LIMIT - 1).items():
        answer.headers.setdefault(name, value)
    return answer


def _limits(left: int) -> dict[str, str]:
    return {"RateLimit-Limit": str(LIMIT), "RateLimit-Remaining": str(left), "RateLimit-Reset": "1"}


@bp.post("/messages")
def create_message() -> Any:
    """The bot sends a message to the user's channel."""
    body = body_of()
    for name in ("type", "payload", "userId", "conversationId", "tags"):
        if name not in body:
            raise BotpressError(400, "InvalidPayload", f"body must have required property '{name}'")
    if body["userId"] != world.bot_id:
        raise BotpressError(400, "InvalidPayload", "a bot sends as itself")
    existing(world.conversations, body["conversationId"], "the conversation")
    check_runtime(body["type"], body["payload"])
    tags = check_tags(body)
    message = world.new_message(body["conversationId"], world.bot_id, body["type"], body["payload"], tags=tags)
    if world.owners[body["conversationId"]]:  # one of the Chat integration's, which tells its listeners
        send_signals(message_created(message, is_bot=True))
    return {"message": as_runtime(message)}, 201


@bp.get("/messages")
def list_messages() -> Any:
    """Messages of a conversation, the users' and the bot's, newest first."""
    asked = request.args.get("conversationId")
    found = [as_runtime(one) for one in reversed(world.messages) if one["conversationId"] == asked]
    return page_of(found, "messages")


@bp.get("/conversations")
def list_conversations() -> Any:
    """Newest first; ``tags.<name>`` must be equal."""
    return _listed(list(world.conversations.values()), "conversations")


@bp.get("/conversations/<conversation_id>")
def get_conversation(conversation_id: str) -> Any:
    """One conversation."""
    return {"conversation": _shown(existing(world.conversations, conversation_id, "the conversation"))}


@bp.get("/users")
def list_users() -> Any:
    """Newest first; of a conversation, or whose ``tags.<name>`` are equal."""
    conversation_id = request.args.get("conversationId")
    owners = world.owners.get(conversation_id, []) if conversation_id else list(world.users)
    return _listed([one for key, one in world.users.items() if key in owners], "users")


@bp.get("/users/<user_id>")
def get_user(user_id: str) -> Any:
    """One user."""
    return {"user": _shown(existing(world.users, user_id, "the user"))}


@bp.put("/users/<user_id>")
def update_user(user_id: str) -> Any:
    """Change name, picture and tags; null clears."""
    user, body = existing(world.users, user_id, "the user"), body_of()
    check_texts(body, "name", "pictureUrl", nullable=True)
    tags = check_tags(body)
    for name in ("name", "pictureUrl"):
        if name in body:
            user.pop(name, None) if body[name] is None else user.__setitem__(name, body[name])
    user |= {"tags": {**user.get("tags", {}), **tags}, "updatedAt": now()}
    return {"user": _shown(user)}


def _shown(one: JSON) -> JSON:
    """As this API has it: with tags."""
    one.setdefault("tags", {})
    return one


def _listed(found: list[JSON], name: str) -> JSON:
    wanted = {key[5:]: value for key, value in request.args.items() if key.startswith("tags.")}
    kept = [_shown(one) for one in reversed(found) if wanted.items() <= _shown(one)["tags"].items()]
    return page_of(kept, name)


@bp.post("/actions")
def call_action() -> Any:
    """An integration's action: webchat makes users with the agent's face, nothing else is known."""
    body = body_of()
    if body.get("type") != "webchat:getOrCreateUser" or not isinstance(body.get("input"), dict):
        raise BotpressError(404, "MethodNotFound", "there is no such action")
    check_texts(body["input"], "name", "pictureUrl", "email")
    shown = {name: body["input"][name] for name in ("name", "pictureUrl") if name in body["input"]}
    user_id = world.new_id("user")
    world.users[user_id] = {"id": user_id, "createdAt": now(), "updatedAt": now(), **shown}
    return {"output": {"userId": user_id}, "meta": {"cached": False}}
