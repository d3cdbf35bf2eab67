"""The inboxes' settings: which channels are connected to which inbox, what else could be; the agents and the contacts.

``static/settings.js`` draws what ``GET /_sim/settings`` answers. Choosing a channel opens ``/connect`` (``connect``)
in a popup, as in HubSpot; the switches are the control routes ``/_sim/channel-accounts/<id>/<verb>``. Who is there and
works when is changed by ``/_sim/agents/<id>/availability``.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, render_template

from ..behaviour import staff
from ..engine.simulation import Simulation, current
from ..model.world import JSON, Actor, Contact, Inbox
from .control_staff import find_user

bp = Blueprint("settings", __name__)

SHOWN = 50
"""Contacts that the page shows, at most: the newest."""


@bp.get("/settings")
def page() -> str:
    """The page; what is in it comes from ``static/settings.js``."""
    return render_template("settings.html")


@bp.get("/_sim/settings")
def view() -> Any:
    """Every inbox with the channels that are connected to it, and those that could be; agents; the newest contacts."""
    sim = current()
    known = [one for one in sim.world.contacts.values() if not one.archived and one.merged_into is None]
    return {
        "inboxes": [settings_of(sim, inbox) for inbox in sim.world.inboxes.values()],
        "agents": [agent(sim, one) for portal_id in sim.world.portals for one in sim.world.agents(portal_id)],
        "contacts": [contact(one) for one in reversed(known[-SHOWN:])],
    }


def agent(sim: Simulation, one: Actor) -> JSON:
    """An agent, as the page shows and changes it; of working hours that can't be read there are none."""
    held = find_user(sim, one.portal_id, one.id).properties
    try:
        hours = json.loads(held.get(staff.WORKING) or "[]")
    except (ValueError, RecursionError):
        hours = None
    return {
        "id": one.id,
        "portal_id": one.portal_id,
        "name": one.name or one.id,
        "status": held.get(staff.STATUS),
        "time_zone": held.get(staff.ZONE),
        "hours": [period for period in hours if staff.is_period(period)] if isinstance(hours, list) else [],
    }


def contact(one: Contact) -> JSON:
    """A contact, as the page shows it."""
    name = " ".join(filter(None, (one.properties.get("firstname"), one.properties.get("lastname"))))
    reach = {key: one.properties.get(key) for key in ("phone", "email")}
    return {"id": one.id, "portal_id": one.portal_id, "name": name, **reach}


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
