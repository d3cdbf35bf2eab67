"""Botpress's Chat API (``packages/chat-api``): users' signed keys, messages, custom events, and listening to them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from queue import Empty
from typing import Any

from flask import Blueprint, Response, request

from . import bot
from .payloads import as_chat, check_chat, to_runtime
from .signals import send_signals
from .world import JSON, BotpressError, Listener, body_of, current, existing, world

bp = Blueprint("chat", __name__, url_prefix="/chat/<webhook>")
FID = re.compile(r"[A-Za-z0-9_\-\\/]{1,70}")
PAGE = 20
SHARED_KEY = "botpress-signs-the-keys-itself"
"""What signs users' keys while the integration has no encryption key."""


@bp.url_value_preprocessor
def check_webhook(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """The webhook id in the path is the address of the bot's integration."""
    if values is not None and values.pop("webhook") != world.webhook_id:
        raise BotpressError(404, "ResourceNotFound", "there is no such bot")


def page_of(found: list[JSON], name: str) -> JSON:
    """A page of a list, as ``?nextToken=`` asks."""
    token = request.args.get("nextToken", "0")
    if not (token.isascii() and token.isdigit() and len(token) < 10):
        raise BotpressError(400, "InvalidQuery", "the nextToken is none of ours")
    start = int(token)
    meta = {"nextToken": str(start + PAGE)} if len(found) > start + PAGE else {}
    return {name: found[start : start + PAGE], "meta": meta}


def me() -> str:
    """The user of the ``x-user-key``: a JWT, HS256, signed with the encryption key (Botpress's own without one)."""
    key = request.headers.get("x-user-key", "")
    signing = world.encryption_key if world.switches.personal_keys else SHARED_KEY
    try:
        signed, _, signature = key.rpartition(".")
        wanted = hmac.digest(signing.encode(), signed.encode("ascii"), hashlib.sha256)
        given = base64.urlsafe_b64decode(signature + "==")
        head, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split("."))
        user_id, algorithm = payload["id"], head["alg"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BotpressError(401, "Unauthorized", "Invalid user key") from None
    if algorithm != "HS256" or not hmac.compare_digest(given, wanted) or not isinstance(user_id, str):
        raise BotpressError(401, "Unauthorized", "Invalid user key")
    if not FID.fullmatch(user_id):
        raise BotpressError(400, "InvalidPayload", "the user id has characters that are not allowed")
    return user_id


def known() -> str:
    """Like :func:`me`, for a user who exists."""
    user_id = me()
    existing(world.users, user_id, "the user")
    return user_id


def conversation_of(conversation_id: str, user_id: str) -> JSON:
    """A conversation that the user takes part in."""
    found = existing(world.conversations, conversation_id, "the conversation")
    if user_id not in world.owners[conversation_id]:
        raise BotpressError(403, "Forbidden", "you are not a participant")
    return found


@bp.get("/hello")
def hello(**_: str) -> Any:
    """Is it there?"""
    return "Hello, Botpress User 🤖", 200


@bp.get("/conversations/<path:conversation_id>/messages")
def list_messages(conversation_id: str, **_: str) -> Any:
    """Newest first, a page at a time."""
    conversation_of(conversation_id, known())
    found = [as_chat(one) for one in reversed(world.messages) if one["conversationId"] == conversation_id]
    return page_of(found, "messages")


@bp.post("/messages")
def create_message(**_: str) -> Any:
    """The user says something; the bot answers through signals."""
    user_id, body = known(), body_of()
    check_chat(body.get("payload"))
    if not isinstance(body.get("metadata", {}), dict):
        raise BotpressError.of_shape("body/metadata must be object")
    conversation_of(str(body.get("conversationId")), user_id)
    kind, payload = to_runtime(body["payload"])
    metadata = {"metadata": body["metadata"]} if "metadata" in body else {}
    message = world.new_message(body["conversationId"], user_id, kind, payload, **metadata)
    bot.heard(message)
    return {"message": as_chat(message)}


@bp.get("/messages/<message_id>")
def get_message(message_id: str, **_: str) -> Any:
    """One message."""
    return {"message": as_chat(_message(message_id))}


@bp.delete("/messages/<message_id>")
def delete_message(message_id: str, **_: str) -> Any:
    """Take a message of one's own back; listeners are told."""
    user_id, message = known(), _message(message_id)
    if message["userId"] != user_id:
        raise BotpressError(403, "Forbidden", "you are not the sender")
    world.messages.remove(message)
    gone = {"id": message_id, "conversationId": message["conversationId"], "userId": user_id}
    send_signals({"type": "message_deleted", "data": gone})
    return {}


def _message(message_id: str) -> JSON:
    user_id = known()
    found = existing({one["id"]: one for one in world.messages}, message_id, "the message")
    conversation_of(found["conversationId"], user_id)
    return found


@bp.post("/events")
def create_event(**_: str) -> Any:
    """A custom event for the bot."""
    user_id, body = known(), body_of()
    conversation_of(str(body.get("conversationId")), user_id)
    if not isinstance(body.get("payload"), dict):
        raise BotpressError.of_shape("body/payload must be object")
    event = bot.custom_event(body["conversationId"], body["payload"], user_id)
    bot.told(event)
    return {"event": event}


@bp.get("/events/<event_id>")
def get_event(event_id: str, **_: str) -> Any:
    """One custom event."""
    known()
    return {"event": existing(world.events, event_id, "the event")}


@bp.get("/conversations/<conversation_id>/listen")
def listen(conversation_id: str, **_: str) -> Any:
    """Server-sent events: every signal of the conversation from now on, and a ``ping`` when there is none."""
    with world.lock:
        user_id = known()
        conversation_of(conversation_id, user_id)
        listener = Listener(conversation_id, user_id)
        world.listeners.append(listener)
    here, ping_seconds = current(), world.switches.ping_seconds

    def frames() -> Iterator[str]:
        yield "{}"  # the answer's first body, which Botpress glues to what follows
        try:
            while True:
                try:
                    signal = listener.heard.get(timeout=ping_seconds)
                except Empty:
                    yield "event: message\ndata: ping\n\n"
                    continue
                if signal is None:
                    return
                yield f"event: message\ndata: {json.dumps(signal)}\n\n"
        finally:
            with here.lock, contextlib.suppress(ValueError):  # the world was reset
                here.listeners.remove(listener)

    return Response(frames(), content_type="text/event-stream")
