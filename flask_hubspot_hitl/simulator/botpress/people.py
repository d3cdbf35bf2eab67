"""The rest of the Chat API: users, their conversations, and who takes part in them."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from .chat import FID, SHARED_KEY, bp, conversation_of, known, me, page_of
from .signals import send_signals
from .world import JSON, BotpressError, body_of, check_texts, existing, now, world


def _put_user(user_id: str, body: JSON) -> JSON:
    check_texts(body, "name", "pictureUrl", "profile")
    user = world.users.setdefault(user_id, {"id": user_id, "createdAt": now()})
    user |= {name: body[name] for name in ("name", "pictureUrl", "profile") if name in body}
    user["updatedAt"] = now()
    return user


def _own_id(body: JSON) -> str | None:
    """An id that the caller chose."""
    check_texts(body, "id")
    given = body.get("id")
    if given is not None and not (isinstance(given, str) and FID.fullmatch(given)):
        raise BotpressError(400, "InvalidPayload", "the id has characters that are not allowed, or is too long")
    return given


def _key(user_id: str) -> str:
    """A key that Botpress itself has signed."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"id": user_id})
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(SHARED_KEY.encode(), signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


@bp.post("/users")
def create_user(**_: str) -> Any:
    """A user with a key of Botpress's; refused with an encryption key, because then the host signs its users' keys."""
    if world.switches.personal_keys:
        raise BotpressError(401, "Unauthorized", "Users are created with their own keys")
    body = body_of()
    user_id = _own_id(body) or world.new_id("user")
    if user_id in world.users:
        raise BotpressError(409, "AlreadyExists", "the user exists")
    return {"user": _put_user(user_id, body), "key": _key(user_id)}


@bp.post("/users/get-or-create")
def get_or_create_user(**_: str) -> Any:
    """Make the key's user, or change its name and the like."""
    return {"user": _put_user(me(), body_of())}


@bp.get("/users/me")
def get_user(**_: str) -> Any:
    """The key's user."""
    return {"user": world.users[known()]}


@bp.put("/users/me")
def update_user(**_: str) -> Any:
    """Change its name and the like."""
    return {"user": _put_user(known(), body_of())}


@bp.delete("/users/me")
def delete_user(**_: str) -> Any:
    """The key's user leaves for good."""
    del world.users[known()]
    return {}


@bp.post("/conversations")
def create_conversation(**_: str) -> Any:
    """A new conversation with the bot."""
    user_id = known()
    conversation_id = _own_id(body_of())
    if conversation_id is not None and conversation_id in world.conversations:
        raise BotpressError(409, "AlreadyExists", "the conversation exists")
    return {"conversation": _new_conversation(user_id, conversation_id or world.new_id("conv"))}


@bp.post("/conversations/get-or-create")
def get_or_create_conversation(**_: str) -> Any:
    """A conversation by an id of the caller's."""
    user_id, conversation_id = known(), _own_id(body_of())
    if conversation_id is None:
        raise BotpressError(400, "InvalidPayload", "body must have required property 'id'")
    if conversation_id in world.conversations:
        return {"conversation": _owned(conversation_id, user_id)}
    return {"conversation": _new_conversation(user_id, conversation_id)}


@bp.get("/conversations")
def list_conversations(**_: str) -> Any:
    """The user's own, newest first."""
    user_id = known()
    found = [one for key, one in world.conversations.items() if world.owners[key][:1] == [user_id]]
    return page_of(found[::-1], "conversations")


@bp.get("/conversations/<path:conversation_id>")
def get_conversation(conversation_id: str, **_: str) -> Any:
    """One conversation."""
    return {"conversation": conversation_of(conversation_id, known())}


@bp.delete("/conversations/<path:conversation_id>")
def delete_conversation(conversation_id: str, **_: str) -> Any:
    """Forget a conversation."""
    _owned(conversation_id, known())
    del world.conversations[conversation_id], world.owners[conversation_id]
    return {}


@bp.get("/conversations/<conversation_id>/participants")
def list_participants(conversation_id: str, **_: str) -> Any:
    """Who takes part; the owner first."""
    conversation_of(conversation_id, known())
    return page_of([_user(one) for one in world.owners[conversation_id]], "participants")


@bp.post("/conversations/<conversation_id>/participants")
def add_participant(conversation_id: str, **_: str) -> Any:
    """The owner lets somebody in."""
    _owned(conversation_id, known())
    body = body_of()
    if not isinstance(body.get("userId"), str):
        raise BotpressError.of_shape("body/userId must be string")
    participant = _user(body["userId"])
    if participant["id"] not in world.owners[conversation_id]:
        world.owners[conversation_id].append(participant["id"])
        _tell("participant_added", conversation_id, participant["id"])
    return {"participant": participant}


@bp.get("/conversations/<conversation_id>/participants/<user_id>")
def get_participant(conversation_id: str, user_id: str, **_: str) -> Any:
    """One who takes part; the owner may ask."""
    _owned(conversation_id, known())
    return {"participant": _participant(conversation_id, user_id)}


@bp.delete("/conversations/<conversation_id>/participants/<user_id>")
def remove_participant(conversation_id: str, user_id: str, **_: str) -> Any:
    """The owner shows somebody out."""
    owner = known()
    _owned(conversation_id, owner)
    if user_id == owner:
        text = "You cannot remove yourself from the conversation because you are its owner"
        raise BotpressError(400, "InvalidPayload", text)
    participant = _participant(conversation_id, user_id)
    world.owners[conversation_id].remove(participant["id"])
    for listener in world.listeners:
        if (listener.conversation_id, listener.user_id) == (conversation_id, user_id):
            listener.heard.put(None)
    _tell("participant_removed", conversation_id, participant["id"])
    return {}


def _new_conversation(user_id: str, conversation_id: str) -> JSON:
    return world.new_conversation(conversation_id, user_id)


def _owned(conversation_id: str, user_id: str) -> JSON:
    """A conversation of the user's own."""
    found = conversation_of(conversation_id, user_id)
    if world.owners[conversation_id][0] != user_id:
        raise BotpressError(403, "Forbidden", "you are not the owner")
    return found


def _user(user_id: object) -> JSON:
    return existing(world.users, user_id, "the user")


def _tell(kind: str, conversation_id: str, user_id: str) -> None:
    send_signals({"type": kind, "data": {"conversationId": conversation_id, "participantId": user_id}})


def _participant(conversation_id: str, user_id: str) -> JSON:
    if user_id not in world.owners[conversation_id]:
        raise BotpressError(404, "ResourceNotFound", "there is no such participant")
    return _user(user_id)
