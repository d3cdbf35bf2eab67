"""The rest of the Chat API: users, their conversations, and who takes part in them."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from flask import request

from .chat import FID, PAGE, SHARED_KEY, body_of, bp, conversation_of, known, me
from .signals import send_signals
from .world import JSON, BotpressError, BotpressWorld, now, world


def _put_user(bot_world: BotpressWorld, user_id: str, body: JSON) -> JSON:
    user = bot_world.users.setdefault(user_id, {"id": user_id, "createdAt": now()})
    user |= {name: body[name] for name in ("name", "pictureUrl", "profile") if isinstance(body.get(name), str)}
    user["updatedAt"] = now()
    return user


def _own_id(body: JSON) -> str | None:
    """An id that the caller chose."""
    given = body.get("id")
    if given is not None and not (isinstance(given, str) and FID.fullmatch(given)):
        raise BotpressError(400, "InvalidPayload", "the id has characters that are not allowed, or is too long")
    return given


def _page(found: list[JSON], name: str) -> JSON:
    """A page of a list, as ``?nextToken=`` asks."""
    token = request.args.get("nextToken") or "0"
    start = int(token) if token.isascii() and token.isdigit() and len(token) < 10 else 0
    meta = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
    return {name: found[start : start + PAGE], "meta": meta}


def _key(user_id: str) -> str:
    """A key that Botpress itself has signed."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"id": user_id})
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(SHARED_KEY.encode(), signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


@bp.post("/users")
def create_user(**_: str) -> Any:
    """A user with a key of Botpress's; refused with an encryption key, because then the host signs its users' keys."""
    bot_world = world()
    if bot_world.switches.personal_keys:
        raise BotpressError(401, "Unauthorized", "Users are created with their own keys")
    body = body_of()
    user_id = _own_id(body) or bot_world.new_id("user")
    if user_id in bot_world.users:
        raise BotpressError(409, "AlreadyExists", "the user exists")
    return {"user": _put_user(bot_world, user_id, body), "key": _key(user_id)}


@bp.post("/users/get-or-create")
def get_or_create_user(**_: str) -> Any:
    """Make the key's user, or change its name and the like."""
    bot_world = world()
    return {"user": _put_user(bot_world, me(bot_world), body_of())}


@bp.get("/users/me")
def get_user(**_: str) -> Any:
    """The key's user."""
    bot_world = world()
    return {"user": bot_world.users[known(bot_world)]}


@bp.put("/users/me")
def update_user(**_: str) -> Any:
    """Change its name and the like."""
    bot_world = world()
    return {"user": _put_user(bot_world, known(bot_world), body_of())}


@bp.delete("/users/me")
def delete_user(**_: str) -> Any:
    """The key's user leaves for good."""
    bot_world = world()
    del bot_world.users[known(bot_world)]
    return {}


@bp.post("/conversations")
def create_conversation(**_: str) -> Any:
    """A new conversation with the bot."""
    bot_world = world()
    user_id = known(bot_world)
    conversation_id = _own_id(body_of())
    if conversation_id is not None and conversation_id in bot_world.conversations:
        raise BotpressError(409, "AlreadyExists", "the conversation exists")
    return {"conversation": _new_conversation(bot_world, user_id, conversation_id or bot_world.new_id("conv"))}


@bp.post("/conversations/get-or-create")
def get_or_create_conversation(**_: str) -> Any:
    """A conversation by an id of the caller's."""
    bot_world = world()
    user_id, conversation_id = known(bot_world), _own_id(body_of())
    if conversation_id is None:
        raise BotpressError(400, "InvalidPayload", "body must have required property 'id'")
    if conversation_id in bot_world.conversations:
        return {"conversation": _owned(bot_world, conversation_id, user_id)}
    return {"conversation": _new_conversation(bot_world, user_id, conversation_id)}


@bp.get("/conversations")
def list_conversations(**_: str) -> Any:
    """Those that the user takes part in, newest first."""
    bot_world = world()
    user_id = known(bot_world)
    found = [one for key, one in bot_world.conversations.items() if user_id in bot_world.owners[key]]
    return _page(found[::-1], "conversations")


@bp.get("/conversations/<path:conversation_id>")
def get_conversation(conversation_id: str, **_: str) -> Any:
    """One conversation."""
    bot_world = world()
    return {"conversation": conversation_of(bot_world, conversation_id, known(bot_world))}


@bp.delete("/conversations/<path:conversation_id>")
def delete_conversation(conversation_id: str, **_: str) -> Any:
    """Forget a conversation."""
    bot_world = world()
    _owned(bot_world, conversation_id, known(bot_world))
    del bot_world.conversations[conversation_id], bot_world.owners[conversation_id]
    return {}


@bp.get("/conversations/<conversation_id>/participants")
def list_participants(conversation_id: str, **_: str) -> Any:
    """Who takes part; the owner first."""
    bot_world = world()
    conversation_of(bot_world, conversation_id, known(bot_world))
    return _page([_user(bot_world, one) for one in bot_world.owners[conversation_id]], "participants")


@bp.post("/conversations/<conversation_id>/participants")
def add_participant(conversation_id: str, **_: str) -> Any:
    """The owner lets somebody in."""
    bot_world = world()
    _owned(bot_world, conversation_id, known(bot_world))
    participant = _user(bot_world, body_of().get("userId"))
    if participant["id"] not in bot_world.owners[conversation_id]:
        bot_world.owners[conversation_id].append(participant["id"])
        told = {"conversationId": conversation_id, "participantId": participant["id"]}
        send_signals(bot_world, {"type": "participant_added", "data": told})
    return {"participant": participant}


@bp.get("/conversations/<conversation_id>/participants/<user_id>")
def get_participant(conversation_id: str, user_id: str, **_: str) -> Any:
    """One who takes part."""
    bot_world = world()
    conversation_of(bot_world, conversation_id, known(bot_world))
    return {"participant": _participant(bot_world, conversation_id, user_id)}


@bp.delete("/conversations/<conversation_id>/participants/<user_id>")
def remove_participant(conversation_id: str, user_id: str, **_: str) -> Any:
    """The owner shows somebody out."""
    bot_world = world()
    _owned(bot_world, conversation_id, known(bot_world))
    participant = _participant(bot_world, conversation_id, user_id)
    bot_world.owners[conversation_id].remove(participant["id"])
    told = {"conversationId": conversation_id, "participantId": participant["id"]}
    send_signals(bot_world, {"type": "participant_removed", "data": told})
    return {}


def _new_conversation(bot_world: BotpressWorld, user_id: str, conversation_id: str) -> JSON:
    conversation = {"id": conversation_id, "createdAt": now(), "updatedAt": now()}
    bot_world.conversations[conversation_id] = conversation
    bot_world.owners[conversation_id] = [user_id]
    return conversation


def _owned(bot_world: BotpressWorld, conversation_id: str, user_id: str) -> JSON:
    """A conversation of the user's own."""
    found = conversation_of(bot_world, conversation_id, user_id)
    if bot_world.owners[conversation_id][0] != user_id:
        raise BotpressError(403, "Forbidden", "you are not the owner")
    return found


def _user(bot_world: BotpressWorld, user_id: object) -> JSON:
    if not isinstance(user_id, str) or user_id not in bot_world.users:
        raise BotpressError(404, "ResourceNotFound", "the user does not exist")
    return bot_world.users[user_id]


def _participant(bot_world: BotpressWorld, conversation_id: str, user_id: str) -> JSON:
    if user_id not in bot_world.owners[conversation_id]:
        raise BotpressError(404, "ResourceNotFound", "there is no such participant")
    return _user(bot_world, user_id)
