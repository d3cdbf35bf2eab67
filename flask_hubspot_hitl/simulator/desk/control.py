"""The fixed control routes ``/_sim/*``: what tests, the demo and the desk use to drive the stand-in. JSON only.

What an agent does with a thread is in ``control_threads.py``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Blueprint, current_app, request

from ..api import connect, contacts, crm
from ..api.wire import check, parse_json
from ..behaviour import people, shapes
from ..behaviour.events import account_event
from ..engine import served
from ..engine.simulation import Simulation, current
from ..model import preset
from ..model.errors import ApiError
from ..model.scopes import KINDS, known_to
from ..model.world import JSON, Actor, Install, Token, now_ms

bp = Blueprint("control", __name__, url_prefix="/_sim")

NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
URL = re.compile(r"https?://[!-~]+")


def control_body(spec: JSON) -> JSON:
    """The JSON object of a control request, or ``{}``; unknown keys are refused so that typing errors show."""
    body = parse_json(request.get_data() or b"{}")
    check(body, spec, "body")
    unknown = sorted(set(body) - {name.rstrip("!") for name in spec})
    if unknown:
        raise ApiError.invalid("body", f"unknown keys {unknown}; known are {[n.rstrip('!') for n in spec]}")
    return dict(body)


def preset_install(sim: Simulation) -> Install:
    """The preset installation, or a plain word when somebody uninstalled it."""
    made = sim.world.installs.get((preset.APP_ID, preset.PORTAL_ID))
    if made is None:
        raise ApiError.missing("The preset installation (POST /_sim/reset brings it back)")
    return made


# --- setting up


@bp.get("/env")
def env() -> Any:
    """The ``HUBSPOT_HITL_*`` settings of the preset app; answering means ready."""
    sim = current()
    return preset.env(sim.world, preset_install(sim), request.host_url.rstrip("/"))


@bp.get("/access-token")
def access_token() -> Any:
    """A long-lived token of the preset portal; ``?portalId=&appId=&scopes=a,b`` for others, or other scopes.

    ``scopes=*`` are all that the app's kind knows.
    """
    sim = current()
    portal_id, scopes = request.args.get("portalId", preset.PORTAL_ID), request.args.get("scopes")
    app_id = request.args.get("appId")
    there = [one for one in sim.world.installs.values() if one.portal_id == portal_id]
    made = next((one for one in there if app_id in (None, one.app_id)), None)
    if made is None:
        raise ApiError.missing("An installation in that portal")
    if scopes is None:
        static = [t for t in sim.world.tokens.values() if t.expires_ms is None and t.scopes == made.scopes]
        for token in static:
            if (token.app_id, token.portal_id) == (made.app_id, made.portal_id):
                return {"access_token": token.value}
    value = sim.ids.secret("static-access")
    given = made.scopes if scopes is None else tuple(scopes.split(","))
    if scopes == "*":
        given = tuple(sorted(known_to(sim.world.apps[made.app_id].kind)))
    sim.world.tokens[value] = Token(value, made.app_id, made.portal_id, given, None)
    return {"access_token": value}


@bp.post("/grant")
def grant() -> Any:
    """Have the preset installation, and all its tokens, be granted further scopes, as when it is installed again."""
    sim = current()
    body = control_body({"scopes!": [str]})
    made = preset_install(sim)
    made.scopes = tuple(dict.fromkeys((*made.scopes, *body["scopes"])))
    for token in sim.world.tokens.values():
        if (token.app_id, token.portal_id) == (made.app_id, made.portal_id):
            token.scopes = made.scopes
    return {"scopes": list(made.scopes)}


@bp.put("/target")
def target() -> Any:
    """Point both feeds of the preset app (or of ``appId``) at a host's webhook URL."""
    sim = current()
    body = control_body({"url!": str, "appId": str})
    if not URL.fullmatch(body["url"]):
        raise ApiError.invalid("url", "must be a URL")
    app = sim.world.apps.get(body.get("appId") or preset.APP_ID)
    if app is None:
        raise ApiError.invalid("appId", "no such app")
    app.target_url = body["url"]
    for channel in sim.world.channels.values():
        if channel.app_id == app.id and (body.get("appId") or channel.id == preset.CHANNEL_ID):
            channel.webhook_url = body["url"]
    return {"url": body["url"]}


@bp.post("/apps")
def make_app() -> Any:
    """A further app and portal; everything left out is generated. Answers what ``/_sim/env`` answers.

    With ``subscribed`` false a new app has no subscriptions yet. ``kind``: one of ``project``, ``legacy-public``,
    ``legacy-private``; an app keeps its own. With ``optionalScopes`` the app may ask for no others but the required.
    """
    sim = current()
    names = ("clientId", "clientSecret", "appId", "developerApiKey", "portalId", "targetUrl", "uiDomain")
    body = control_body(
        dict.fromkeys(names, str)
        | {name: [str] for name in ("redirectUris", "requiredScopes", "optionalScopes")}
        | {"subscribed": bool, "kind": frozenset(KINDS)}
    )
    for name in ("appId", "portalId"):
        if body.get(name) and not NUMBER.fullmatch(body[name]):
            raise ApiError.invalid(name, "must be a number that fits int32, as text")
    if body.get("targetUrl") and not URL.fullmatch(body["targetUrl"]):
        raise ApiError.invalid("targetUrl", "must be a URL")
    made = preset.make_installation(
        sim.world,
        app_id=body.get("appId"),
        portal_id=body.get("portalId"),
        client_id=body.get("clientId"),
        client_secret=body.get("clientSecret"),
        developer_key=body.get("developerApiKey"),
        target_url=body.get("targetUrl"),
        subscribed=body.get("subscribed") is not False,
        kind=body.get("kind"),
    )
    app, portal = sim.world.apps[made.app_id], sim.world.portals[made.portal_id]
    portal.ui_domain = body.get("uiDomain") or portal.ui_domain
    app.redirect_uris = tuple(body.get("redirectUris") or app.redirect_uris)
    app.required_scopes = tuple(body.get("requiredScopes") or app.required_scopes)
    if body.get("optionalScopes") is not None:
        app.optional_scopes = tuple(body["optionalScopes"])
    return preset.env(sim.world, made, request.host_url.rstrip("/"))


@bp.post("/contacts")
def make_contact() -> Any:
    """A contact of the preset portal (or of ``portalId``), flat: phone, email, firstname, lastname, …"""
    sim = current()
    body = parse_json(request.get_data() or b"{}")
    check(body, {"portalId": str}, "body")
    portal_id = body.pop("portalId", None) or preset.PORTAL_ID
    if portal_id not in sim.world.portals:
        raise ApiError.invalid("portalId", "no such portal")
    properties = crm.given_properties({"properties": body})
    contact = people.make_contact(sim, portal_id, properties)
    return contacts.shape(contact, list(properties)), 201


@bp.get("/agents")
def agents() -> Any:
    """The agents of every portal."""
    world = current().world
    return [shapes.actor(a) | {"portalId": a.portal_id} for p in world.portals for a in world.agents(p)]


@bp.put("/agents/<actor_id>")
def put_agent(actor_id: str) -> Any:
    """Make an agent in the preset portal (or in ``portalId``), or give one another name or e-mail address.

    null takes a name or an address away. Who is ``archived`` is an owner of the past.
    """
    sim = current()
    body = control_body({"name": str, "email": str, "portalId": str, "archived": bool})
    portal_id = body.get("portalId") or preset.PORTAL_ID
    if portal_id not in sim.world.portals or not re.fullmatch(r"A-[1-9][0-9]{0,17}", actor_id, re.ASCII):
        raise ApiError.missing("Portal, or an actor id such as A-987,")
    agent = sim.world.actors.setdefault((portal_id, actor_id), Actor(actor_id, portal_id, "AGENT"))
    agent.name, agent.email = body.get("name", agent.name), body.get("email", agent.email)
    member = sim.world.member(agent)
    is_archived = body.get("archived")
    member.archived, member.updated_ms = member.archived if is_archived is None else is_archived, now_ms()
    return shapes.actor(agent)


@bp.post("/staging-tokens")
def staging_token() -> Any:
    """Begin a connection as an admin does inside HubSpot; answers the query of the redirect.

    Source: docs/hubspot.rst (Connecting inside HubSpot).
    """
    sim = current()
    body = control_body({"channelId": str, "inboxId": str, "portalId": str})
    portal_id, channel_id = body.get("portalId") or preset.PORTAL_ID, body.get("channelId") or preset.CHANNEL_ID
    return connect.begin(sim, channel_id, portal_id, body.get("inboxId") or preset.INBOX_ID)


@bp.post("/channel-accounts/<account_id>/<verb>")
def change_account(account_id: str, verb: str) -> Any:
    """What an admin does with a channel account: ``disable`` and ``enable`` are about its credentials
    (``authorized``), ``deactivate`` and ``activate`` the switch in the inbox's settings, ``purge`` ends it.
    """
    sim = current()
    control_body({})
    account = sim.world.accounts.get(account_id)
    if account is None or verb not in ("disable", "enable", "deactivate", "activate", "purge"):
        raise ApiError.missing("Channel account or verb")
    if verb == "purge":
        account.archived, account.archived_ms = True, now_ms()
    if verb in ("disable", "enable", "purge"):
        account.authorized = verb == "enable"
    else:
        account.active = verb == "activate"
    account_event(sim, account, "PURGED" if verb == "purge" else "UPDATED", now_ms())
    return shapes.account(account)


@bp.post("/contacts/<contact_id>/merge")
def merge(contact_id: str) -> Any:
    """Merge a contact into another one (``into``), as an admin does."""
    sim = current()
    into = control_body({"into!": str})["into"]
    for portal_id in sim.world.portals:
        loser = people.contact(sim.world, portal_id, contact_id)
        winner = people.contact(sim.world, portal_id, into)
        if loser is not None and winner is not None and loser is not winner:
            people.merge_contacts(sim, winner, loser)
            return contacts.shape(winner)
    raise ApiError.missing("Contact")


# --- chaos, logs, reset


@bp.get("/chaos")
def show_chaos() -> Any:
    return current().chaos.values()


@bp.post("/chaos")
def change_chaos() -> Any:
    """Change switches (see ``chaos.py``); answers all current values."""
    sim = current()
    body = parse_json(request.get_data() or b"{}")
    check(body, {}, "body")
    sim.chaos.change(body)
    sim.deliveries.wake()
    return sim.chaos.values()


@bp.post("/reset")
def reset() -> Any:
    """Back to the preset: world, switches and logs."""
    current().reset()
    return {}


@bp.get("/served")
def list_served() -> Any:
    """Every call of HubSpot's API that is served here; any other one answers 501."""
    return served.calls(current_app.url_map)


@bp.get("/requests")
def list_requests() -> Any:
    """Every API call served, oldest first."""
    return list(current().requests)


@bp.get("/deliveries")
def list_deliveries() -> Any:
    """Every delivery attempt, oldest first; ``attempt`` counts from 0, as ``attemptNumber`` does."""
    return current().deliveries.log()


@bp.get("/pending")
def pending() -> Any:
    """How many events are still on their way: queued, held back, or between two attempts."""
    return {"deliveries": current().deliveries.pending()}


@bp.post("/deliveries/<int:number>/replay")
def replay(number: int) -> Any:
    """Send the body of a delivery (its place in the list, from 0) once more, signed afresh."""
    sim = current()
    log = sim.deliveries.log()
    if number >= len(log):
        raise ApiError.missing("Delivery")
    entry = log[number]
    return deliver_now(sim, entry["feed"], entry["owner"], entry["body"].encode(), 1)


@bp.post("/deliver")
def deliver() -> Any:
    """Sign any body (or ``raw`` text) now and deliver it ``times`` times; answers the statuses."""
    sim = current()
    body = parse_json(request.get_data() or b"{}")
    check(body, {"feed": frozenset({"app", "channel"}), "times": int, "owner": str, "raw": str}, "body")
    times = body.get("times", 1)
    if ("body" in body) == ("raw" in body) or not isinstance(times, int) or not 1 <= times <= 1000:
        raise ApiError.invalid("body", "one of `body` and `raw` is needed, and `times` from 1 to 1000")
    if "raw" in body and body["raw"] is None:
        raise ApiError.invalid("raw", "must be text; null is delivered by `body`")
    feed = body.get("feed") or "app"
    owner = body.get("owner") or (preset.APP_ID if feed == "app" else preset.CHANNEL_ID)
    payload = body["raw"].encode("utf-8", "surrogatepass") if "raw" in body else json.dumps(body["body"]).encode()
    return deliver_now(sim, feed, owner, payload, times)


def deliver_now(sim: Simulation, feed: str, owner: str, payload: bytes, times: int) -> list[int | None]:
    """Deliver at once, outside the lanes and without retries. Runs without the lock, so the host can call back."""
    with sim.lock:
        where = sim.deliveries.destination(feed, owner)
    if where is None:
        raise ApiError.invalid("feed", "no target is set (PUT /_sim/target)")
    return [sim.deliveries.send(feed, owner, *where, payload) for _ in range(times)]


@bp.post("/workflow")
def workflow() -> Any:
    """What a portal's workflow sends to ``url``: any body, signed v2 and v3 for whatever app an admin names.

    So a right signature proves that HubSpot sent it, not that the app or its portal had anything to do with it.
    Answers the status.
    """
    sim = current()
    body = parse_json(request.get_data() or b"{}")
    check(body, {"url!": str, "appId": str}, "body")
    with sim.lock:
        app = sim.world.apps.get(body.get("appId") or preset.APP_ID)
    if app is None or not URL.fullmatch(body["url"]):
        raise ApiError.invalid("body", "a URL and an app there is are needed")
    payload = json.dumps(body.get("body", {})).encode()
    return {"status": sim.deliveries.send("workflow", app.id, body["url"], app.client_secret, payload)}
