"""The Webhook integration: what is posted to it becomes an event of the bot's, bound to no conversation."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from ...hubspot import strict_json
from . import studio
from .world import BotpressError, BotpressWorld, world

bp = Blueprint("webhook", __name__, url_prefix=f"/webhook/{BotpressWorld.events_webhook_id}")
WELCOME = "Welcome back"


@bp.post("")
def take() -> Any:
    """Its flow takes the conversation from the body and greets in it. Bad JSON is an empty body."""
    if request.headers.get("x-bp-secret") != world.bp_secret:
        raise BotpressError(400, "Runtime", "The provided secret is invalid.")
    try:
        body = strict_json.loads(request.get_data())
    except ValueError:
        body = {}
    world.webhook_events.append({"body": body, "query": dict(request.args), "path": "/", "method": "POST"})
    if isinstance(body, dict) and isinstance(body.get("conversationId"), str):
        studio.bot_says(body["conversationId"], WELCOME)
    return "", 200
