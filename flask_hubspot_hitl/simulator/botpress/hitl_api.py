"""The ``plus/hitl-api`` integration: what it posts to the service, and the three calls it takes, with its defects.

It checks nothing, drops what comes before the two conversations are linked, and closes a ticket by an id that it
never told.
"""

from __future__ import annotations

import json
import time
from typing import Any

import requests
from flask import Blueprint

from .world import JSON, BotpressError, Session, body_of, now_ms, world

bp = Blueprint("hitl_api", __name__, url_prefix="/webhook/<webhook>")
CANCELLED = "( The user has ended the session. )"
TIMEOUT = 60


@bp.url_value_preprocessor
def check_webhook(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Who knows the id may call."""
    if values is not None and values.pop("webhook") != world.webhook_id:
        raise BotpressError(404, "ResourceNotFound", "there is no such integration")


@bp.post('/<any("agent-assigned", "message-from-agent", "stop-hitl"):kind>')
def take(kind: str, **_: str) -> Any:
    """An agent took the conversation, wrote, or closed; no ``closeRemoteTicket`` follows."""
    body = body_of(lambda _: BotpressError(400, "Runtime", "An unexpected error occurred in the integration"))
    named = (one for one in world.sessions.values() if one.remote_id == body.get("remoteConversationId"))
    session = next(named, None)
    if session is not None and session.state == "active" and time.monotonic() >= session.active_at:
        session.received.append({"kind": kind, **body})
        if kind == "stop-hitl":
            session.state = "stopped"
    return "", 200


# What it posts ----------------------------------------------------------------------------------------------


def post(path: str, body: JSON) -> JSON:
    """One request to the service, as the integration makes it; an answer that is not 2xx is its user's error."""
    url = f"{world.target.rstrip('/')}/{path}"
    at = now_ms()
    answer = requests.post(
        url,
        data=json.dumps(body, separators=(",", ":")).encode(),
        headers={"Content-Type": "application/json", "Accept": "application/json, text/plain, */*"},
        timeout=TIMEOUT,
    )
    found = answer.json() if answer.content and "json" in answer.headers.get("Content-Type", "") else None
    with world.lock:
        world.deliveries.append({"at": at, "url": url, "body": body, "status": answer.status_code, "answer": found})
    if not 200 <= answer.status_code < 300:
        raise BotpressError(400, "Runtime", f"the service answered {answer.status_code} to {path}")
    return found if isinstance(found, dict) else {}


def id_in(answer: JSON) -> str:
    """The id of an answer: it must be text."""
    found = answer.get("id")
    if not isinstance(found, str) or not found:
        raise BotpressError(400, "Runtime", "the service gave no id, or one that is no text")
    return found


def escalate(asked: JSON) -> Session:
    """The user's first escalation makes a remote user; later ones do not."""
    user_id = str(asked.get("userId") or "user_01")
    with world.lock:
        user = world.users.setdefault(user_id, {"id": user_id})
        remote_user = user.get("remote")
    if remote_user is None:
        wanted = {name: asked[name] for name in ("name", "pictureUrl", "email") if asked.get(name)}
        body = {"type": "createRemoteUser", "payload": {"role": "end-user", **wanted}}
        remote_user = id_in(post("createRemoteUser", body))
        with world.lock:
            user["remote"] = remote_user
    wanted = {name: asked[name] for name in ("title", "description") if asked.get(name)}
    answer = post("createRemoteConversation", {"type": "createRemoteConversation", "payload": wanted})
    with world.lock:
        conversation_id = world.new_id("conv")
        active_at = time.monotonic() + world.switches.activation_seconds
        session = Session(conversation_id, id_in(answer), user_id, remote_user, active_at)
        world.sessions[conversation_id] = session
    return session


def say(session: Session, payload: JSON, *, as_bot: bool = False) -> None:
    """A message that the bot places in the downstream conversation."""
    body = {
        "type": "botSendsMessage",
        "remoteConversationId": session.remote_id,
        "remoteUserId": "BOT" if as_bot else session.remote_user_id,
        "payload": payload if as_bot else {**payload, "userId": session.user_id},
    }
    post("botSendsMessage", body)


def end(session: Session) -> None:
    """The user ends: a text of the bot's and the closing of the ticket, in either order."""
    session.state = "ended"
    close = {"type": "closeRemoteTicket", "payload": {"botpressConversationId": session.conversation_id}}
    if not world.switches.cancel_first:
        post("closeRemoteTicket", close)
    say(session, {"type": "text", "text": CANCELLED}, as_bot=True)
    if world.switches.cancel_first:
        post("closeRemoteTicket", close)
