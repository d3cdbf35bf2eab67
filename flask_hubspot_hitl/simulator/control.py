"""The fixed control routes ``/_sim/*``: what tests, the demo and the desk use to drive the stand-in. JSON only."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from flask import Blueprint, request

from . import contacts, files, preset, shapes, threads
from .events import account_event
from .simulation import Simulation, current
from .wire import LATEST_MS, ApiError, check, moment_ms, parse_json
from .world import JSON, Actor, Install, StagingToken, Thread, Token, now_ms

bp = Blueprint("control", __name__, url_prefix="/_sim")

NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
URL = re.compile(r"https?://[!-~]+")
NEW_FILE = {"name!": str, "contentType": str, "content!": str}
KNOWN_FILE = {"type": frozenset({"FILE"}), "fileId": str, "name": str, "url": str, "fileUsageType": str}


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
    """A long-lived token of the preset portal; ``?portalId=&scopes=a,b`` for another portal or fewer scopes."""
    sim = current()
    portal_id, scopes = request.args.get("portalId", preset.PORTAL_ID), request.args.get("scopes")
    made = next((i for i in sim.world.installs.values() if i.portal_id == portal_id), None)
    if made is None:
        raise ApiError.missing("An installation in that portal")
    if scopes is None:
        static = [t for t in sim.world.tokens.values() if t.expires_ms is None and t.scopes == made.scopes]
        for token in static:
            if (token.app_id, token.portal_id) == (made.app_id, made.portal_id):
                return {"access_token": token.value}
    value = sim.ids.secret("static-access")
    few = made.scopes if scopes is None else tuple(scopes.split(","))
    sim.world.tokens[value] = Token(value, made.app_id, made.portal_id, few, None)
    return {"access_token": value}


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
    """A further app and portal; everything left out is generated. Answers what ``/_sim/env`` answers."""
    sim = current()
    names = ("clientId", "clientSecret", "appId", "developerApiKey", "portalId", "targetUrl")
    body = control_body(dict.fromkeys(names, str))
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
    )
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
    properties = contacts.given_properties({"properties": body})
    contact = contacts.make_contact(sim, portal_id, properties)
    return contacts.shape(contact, list(properties)), 201


@bp.get("/agents")
def agents() -> Any:
    """The agents of every portal."""
    world = current().world
    return [shapes.actor(a) | {"portalId": a.portal_id} for p in world.portals for a in world.agents(p)]


@bp.put("/agents/<actor_id>")
def put_agent(actor_id: str) -> Any:
    """Make an agent in the preset portal (or in ``portalId``), or give one another name or e-mail address.

    null takes a name or an address away.
    """
    sim = current()
    body = control_body({"name": str, "email": str, "portalId": str})
    portal_id = body.get("portalId") or preset.PORTAL_ID
    if portal_id not in sim.world.portals or not re.fullmatch(r"A-[1-9][0-9]{0,17}", actor_id, re.ASCII):
        raise ApiError.missing("Portal, or an actor id such as A-987,")
    agent = sim.world.actors.setdefault((portal_id, actor_id), Actor(actor_id, portal_id, "AGENT"))
    agent.name, agent.email = body.get("name", agent.name), body.get("email", agent.email)
    return shapes.actor(agent)


@bp.post("/staging-tokens")
def staging_token() -> Any:
    """Begin a connection as an admin does inside HubSpot; answers the query of the redirect (facts §2.4)."""
    sim = current()
    body = control_body({"channelId": str, "inboxId": str, "portalId": str})
    portal_id, channel_id = body.get("portalId") or preset.PORTAL_ID, body.get("channelId") or preset.CHANNEL_ID
    inbox_id = body.get("inboxId") or preset.INBOX_ID
    inbox = sim.world.inboxes.get(inbox_id)
    if channel_id not in sim.world.channels or inbox is None or inbox.portal_id != portal_id:
        raise ApiError.invalid("body", "no such channel, portal or inbox")
    value = sim.ids.secret("staging")
    sim.world.staging[value] = StagingToken(value, channel_id, portal_id, inbox_id, now_ms())
    ids = {"channelId": int(channel_id), "inboxId": int(inbox_id), "portalId": int(portal_id)}
    return {"accountToken": value, **ids, "redirectUrl": f"{request.host_url}"}


@bp.post("/channel-accounts/<account_id>/<verb>")
def change_account(account_id: str, verb: str) -> Any:
    """``disable``, ``enable`` or ``purge`` a channel account, as an admin does inside HubSpot."""
    sim = current()
    control_body({})
    account = sim.world.accounts.get(account_id)
    if account is None or verb not in ("disable", "enable", "purge"):
        raise ApiError.missing("Channel account or verb")
    account.archived = account.archived or verb == "purge"
    account.authorized = verb == "enable"
    account_event(sim, account, "PURGED" if verb == "purge" else "UPDATED", now_ms())
    return shapes.account(account)


# --- threads


def thread_json(sim: Simulation, thread: Thread) -> JSON:
    """``PublicThread`` with its messages and what only the stand-in knows."""
    return shapes.thread(thread, ticket=True) | {
        "portalId": thread.portal_id,
        "integrationThreadId": thread.integration_thread_id,
        "customer": thread.customer,
        "purged": thread.purged,
        "messages": [shapes.message(sim, message) for message in thread.messages],
    }


@bp.get("/threads")
def list_threads() -> Any:
    """Every thread of every portal, oldest first."""
    sim = current()
    return [thread_json(sim, thread) for thread in sim.world.threads.values()]


@bp.get("/threads/<thread_id>")
def get_thread(thread_id: str) -> Any:
    sim = current()
    return thread_json(sim, find_thread(sim, thread_id))


def find_thread(sim: Simulation, thread_id: str) -> Thread:
    """A thread by id, else 404."""
    if thread_id not in sim.world.threads:
        raise ApiError.missing("Thread")
    return sim.world.threads[thread_id]


@bp.post("/threads/<thread_id>/<verb>")
def act(thread_id: str, verb: str) -> Any:
    """What an agent does with a thread. ``createdAt`` (ISO) and ``occurredAt`` (epoch ms) set the times."""
    sim = current()
    thread = find_thread(sim, thread_id)
    spec: JSON = {"actorId": str, "createdAt": str, "occurredAt": int}
    if verb in ("reply", "comment"):
        spec |= {"text": str, "richText": str, "attachments": [{}]}
    body = control_body(spec)
    first = sim.world.agents(thread.portal_id)[0].id
    actor_id = body.get("actorId") or first
    if not re.fullmatch(r"[A-Z]-\S{1,100}", actor_id):
        raise ApiError.invalid("actorId", "must be an actor id such as A-987")
    occurred, created = body.get("occurredAt"), body.get("createdAt")
    if occurred is not None and not 0 <= occurred <= LATEST_MS:
        raise ApiError.invalid("occurredAt", "must be epoch milliseconds")
    created_ms = moment_ms(created, "createdAt") if created else occurred if occurred is not None else now_ms()
    at = occurred if occurred is not None else created_ms
    if verb in ("reply", "comment"):
        send = threads.reply if verb == "reply" else threads.comment
        attachments = [attachment(sim, thread, item) for item in body.get("attachments") or []]
        if not (body.get("text") or body.get("richText") or attachments):
            raise ApiError.invalid("text", "text, richText or attachments are needed")
        message = send(
            sim,
            thread,
            actor_id,
            text=body.get("text"),
            rich_text=body.get("richText"),
            attachments=attachments,
            created_ms=created_ms,
            at=at,
        )
        return shapes.message(sim, message)
    if verb in ("assign", "unassign"):
        threads.assign(sim, thread, actor_id if verb == "assign" else None, actor_id, threads.HUBSPOT, at)
    elif verb in ("close", "reopen"):
        status = "CLOSED" if verb == "close" else "OPEN"
        threads.set_status(sim, thread, status, actor_id, threads.HUBSPOT, at)
    elif verb == "archive":
        threads.archive(sim, thread, at)
    elif verb == "restore":
        threads.restore(sim, thread, at)
    elif verb == "purge":
        threads.purge(sim, thread, at)
    else:
        raise ApiError.missing("Verb")
    return thread_json(sim, thread)


def attachment(sim: Simulation, thread: Thread, item: JSON) -> JSON:
    """An agent's attachment: as it is, or ``{name, contentType, content}`` (base64), stored as a file."""
    if "content" not in item:
        if item.get("type", "FILE") != "FILE":  # LOCATION, CONTACT, … and whatever HubSpot may think of
            check(item, {"type!": str}, "attachments")
            return item
        check(item, KNOWN_FILE, "attachments")
        return {"type": "FILE", "fileId": "0", "fileUsageType": "OTHER", **item}
    check(item, NEW_FILE, "attachments")
    try:
        content = base64.b64decode(item["content"], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError.invalid("attachments", "content must be base64") from None
    content_type = item.get("contentType") or "application/octet-stream"
    stored = files.store(
        sim,
        thread.portal_id,
        name=item["name"],
        content_type=content_type,
        content=content,
        access="PRIVATE",
        folder=f"/conversations/{thread.id}",
    )
    return {"type": "FILE", "fileId": stored.id, "fileUsageType": shapes.usage_type(content_type)}


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
    """How many events are waiting for delivery or on their way."""
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
