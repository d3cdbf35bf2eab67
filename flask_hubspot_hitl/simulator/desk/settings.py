"""The inboxes' settings: which channels an admin has connected to which inbox, and what else could be connected.

``static/settings.js`` draws what ``GET /_sim/settings`` answers. Choosing a channel opens ``/connect`` (``connect``)
in a popup, as in HubSpot; the switches are the control routes ``/_sim/channel-accounts/<id>/<verb>``.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template

from ..engine.simulation import Simulation, current
from ..model.world import JSON, Inbox

bp = Blueprint("settings", __name__)


@bp.get("/settings")
def page() -> str:
    """The page; what is in it comes from ``static/settings.js``."""
    return render_template("settings.html")


@bp.get("/_sim/settings")
def view() -> Any:
    """Every inbox with the channels that are connected to it, and those that could be."""
    sim = current()
    return {"inboxes": [settings_of(sim, inbox) for inbox in sim.world.inboxes.values()]}


def settings_of(sim: Simulation, inbox: Inbox) -> JSON:
    """One inbox. ``can_connect``: the channel's app has given a page to connect with."""
    world = sim.world
    there = [one for one in world.accounts.values() if one.inbox_id == inbox.id and not one.archived]
    apps = {app_id for app_id, portal_id in world.installs if portal_id == inbox.portal_id}
    channels = [one for one in world.channels.values() if one.app_id in apps and not one.archived]
    return {
        "id": inbox.id,
        "portal_id": inbox.portal_id,
        "name": inbox.name,
        "kind": "Help desk" if inbox.type == "HELP_DESK" else "Inbox",
        "accounts": [
            {
                "id": one.id,
                "name": one.name,
                "channel": world.channels[one.channel_id].name,
                "identifier": (one.identifier or {}).get("value"),
                "active": one.active,
                "authorized": one.authorized,
            }
            for one in there
        ],
        "channels": [{"id": one.id, "name": one.name, "can_connect": bool(one.redirect_url)} for one in channels],
    }
