"""``/_sim/*`` of the Botpress stand-in: settings, switches, what was seen, and acting as the bot's users."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from flask import Blueprint

from ..model.errors import ApiError
from . import bot, hitl_api, studio
from .signals import event_created, message_created, send_signals
from .world import JSON, Session, Switches, body_of, world

bp = Blueprint("control", __name__, url_prefix="/_sim")


def _body() -> JSON:
    return body_of(lambda text: ApiError.invalid("body", text))


def _payload(body: JSON) -> JSON:
    """``payload``, or ``text`` as one."""
    found = body.get("payload")
    return found if isinstance(found, dict) else {"type": "text", "text": str(body.get("text", "hello"))}


@bp.get("/env")
def env() -> Any:
    """The ``HUBSPOT_HITL_BOTPRESS_*`` settings."""
    return world.env()


@bp.post("/reset")
def reset() -> Any:
    """Back to an empty bot."""
    world.reset()
    return {}


@bp.put("/target")
def target() -> Any:
    """Where the bot calls: the chat route, the hitl-api base with its secret, or the studio routes' base."""
    world.target = str(_body().get("url", ""))
    return {}


@bp.post("/chaos")
def chaos() -> Any:
    """Change switches; ``faults`` and ``latency`` are those of the HubSpot stand-in."""
    body = _body()
    mine = {spec.name for spec in fields(Switches)}
    world.switches = Switches(**{**asdict(world.switches), **{k: v for k, v in body.items() if k in mine}})
    world.chaos.change({name: value for name, value in body.items() if name not in mine})
    return {**asdict(world.switches)}


@bp.get('/<any("requests", "deliveries", "webhook-events", "messages"):what>')
def list_all(what: str) -> Any:
    """API calls served, the bot's requests to the host, what the Webhook integration got, or messages; oldest first."""
    return getattr(world, what.replace("-", "_"))


@bp.put("/bot")
def change_bot() -> Any:
    """The fields of the bot's ``hitl.start``."""
    world.asks = _body()
    return {}


@bp.post("/conversations")
def put_conversation() -> Any:
    """Have a conversation of some channel's, ``id``, as if its user had written."""
    studio.know(str(_body().get("id") or "conv_studio"))
    return {}


@bp.post("/chat/<what>")
def act_in_chat(what: str) -> Any:
    """``say`` or ``event``: the bot does something in a conversation, unasked."""
    body = _body()
    conversation_id = str(body.get("conversationId") or next(iter(world.conversations), ""))
    if what == "say":
        found = message_created(bot.say(conversation_id, str(body.get("text", "hello"))), is_bot=True)
    elif what == "event":
        event = bot.custom_event(conversation_id, body.get("payload") or bot.ask())
        found = event_created(event, is_bot=True)
    elif what == "signal":
        found = body
    else:
        raise ApiError(404, "OBJECT_NOT_FOUND", "say, event or signal")
    send_signals(found)
    return found


@bp.post("/hitl-api/<what>")
def act_as_agent_of_old(what: str) -> Any:
    """``ping``, ``escalate``, ``say``, ``bot`` or ``end``; ``session`` is the conversation's id."""
    body = _body()
    if what == "ping":
        return hitl_api.post("ping", {"type": "ping"})
    if what == "escalate":
        return session_json(hitl_api.escalate(body))
    session = world.sessions.get(str(body.get("session")))
    if session is None:
        raise ApiError(404, "OBJECT_NOT_FOUND", "no such session")
    if what in ("say", "bot"):
        hitl_api.say(session, _payload(body), as_bot=what == "bot")
    elif what == "end":
        hitl_api.end(session)
    else:
        raise ApiError(404, "OBJECT_NOT_FOUND", "ping, escalate, say, bot or end")
    return session_json(session)


@bp.get("/hitl-api/sessions")
def list_sessions() -> Any:
    """Every session, with what came from the service."""
    return [session_json(one) for one in world.sessions.values()]


def session_json(session: Session) -> JSON:
    """A session as the control routes show it."""
    shown = asdict(session)
    del shown["active_at"]
    return {"session": session.conversation_id, **shown}


@bp.post("/studio/<what>")
def act_in_studio(what: str) -> Any:
    """``turn``, ``start`` or ``stop`` in ``conversationId``."""
    body = _body()
    conversation_id = str(body.pop("conversationId", "") or "conv_studio")
    if what == "turn":
        return studio.turn(conversation_id, _payload(body), body.get("messageId"))
    if what == "start":
        return studio.start(conversation_id, body) or {}
    if what == "stop":
        return studio.ask("stop", {"conversationId": conversation_id, **body}) or {}
    raise ApiError(404, "OBJECT_NOT_FOUND", "turn, start or stop")
