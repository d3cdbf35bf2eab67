"""How an admin connects the channel inside HubSpot: the popup, staging tokens, and the way back.

Source: docs/hubspot.rst (Connecting inside HubSpot).

``GET /connect`` is the admin's click, on the page of ``settings.py``; it opens the channel's own page with the
documented query. The app finishes the staging token; the account is made by that or when the popup comes back to
``redirectUrl``, which is a switch.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, redirect, render_template, request

from ..behaviour import shapes
from ..engine.simulation import Simulation, current
from ..model import preset
from ..model.errors import ApiError
from ..model.world import JSON, StagingToken, now_ms
from . import channels
from .channels import BASES, IDENTIFIER, READ, caller
from .wire import find_channel, json_body, on

bp = Blueprint("connecting", __name__)


def begin(sim: Simulation, channel_id: str, portal_id: str, inbox_id: str) -> JSON:
    """Begin a connection, and return the query of the popup. Raises ApiError."""
    inbox = sim.world.inboxes.get(inbox_id)
    if channel_id not in sim.world.channels or inbox is None or inbox.portal_id != portal_id:
        raise ApiError.invalid("body", "no such channel, portal or inbox")
    value = sim.ids.secret("staging")
    sim.world.staging[value] = StagingToken(value, channel_id, portal_id, inbox_id, now_ms())
    ids = {"channelId": int(channel_id), "inboxId": int(inbox_id), "portalId": int(portal_id)}
    return {"accountToken": value, **ids, "redirectUrl": f"{sim.base_url}/connected?accountToken={value}"}


@bp.get("/connect")
def popup() -> Any:
    """Have an admin pick the channel in the inbox's settings: send the popup on to the page of the app."""
    sim = current()
    chosen = {name: request.args.get(name) for name in ("channelId", "portalId", "inboxId")}
    query = begin(
        sim,
        chosen["channelId"] or preset.CHANNEL_ID,
        chosen["portalId"] or preset.PORTAL_ID,
        chosen["inboxId"] or preset.INBOX_ID,
    )
    page = sim.world.channels[str(query["channelId"])].redirect_url
    if not page:
        raise ApiError.invalid("channelId", "the channel has no channelAccountConnectionRedirectUrl")
    parts = urlsplit(page)
    together = [*parse_qsl(parts.query, keep_blank_values=True), *query.items()]
    return redirect(urlunsplit(parts._replace(query=urlencode(together))), 302)


@bp.get("/connected")
def popup_is_back() -> Any:
    """Take the popup back at HubSpot: make the account now unless the PATCH has made it."""
    sim = current()
    staging = sim.world.staging.get(request.args.get("accountToken", ""))
    if staging is not None and staging.name is not None:
        complete(sim, staging)
    return render_template("connected.html", title="Not connected" if staging and not staging.name else "Connected")


def complete(sim: Simulation, staging: StagingToken) -> None:
    """Make the account of a staging token that the app has filled in."""
    channel = sim.world.channels[staging.channel_id]
    name, identifier = staging.name or channel.name, staging.identifier
    place = (staging.portal_id, staging.inbox_id)
    channels.connect(sim, channel, *place, name=name, authorized=True, identifier=identifier)
    del sim.world.staging[staging.value]
    sim.journal.ring()


@on(bp, "PATCH", BASES, "/<channel_id>/channel-account-staging-tokens/<token>")
def update_staging_token(channel_id: str, token: str) -> Any:
    """Take from the app which account it is to be, with the portal's own token."""
    sim = current()
    made = caller(sim, *READ)
    channel = find_channel(sim.world, made.app_id, channel_id)
    staging = sim.world.staging.get(token)
    if staging is None or (staging.channel_id, staging.portal_id) != (channel.id, made.portal_id):
        raise ApiError.missing("Staging token")
    lifetime = sim.chaos.staging_seconds
    if lifetime is not None and now_ms() - staging.created_ms > lifetime * 1000:
        raise ApiError.missing("Staging token")
    needed = "!" if "2026-09" in request.path else ""
    body = json_body({f"accountName{needed}": str, f"deliveryIdentifier{needed}": IDENTIFIER})
    identifier = body.get("deliveryIdentifier")
    staging.identifier = channels.check_connection(sim, channel, made.portal_id, staging.inbox_id, identifier)
    staging.name = body.get("accountName") or channel.name
    answer = shapes.given(
        accountToken=token,
        createdAt=shapes.time_of(staging.created_ms),
        genericChannelId=int(channel.id),
        inboxId=int(staging.inbox_id),
        userId=int(made.user_id),
        accountName=staging.name,
        deliveryIdentifier=staging.identifier,
    )
    if sim.chaos.staging_completes == "patch":
        complete(sim, staging)
    return answer
