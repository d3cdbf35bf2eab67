"""The webhooks journal: its files from an offset on, and what an app subscribes to; for tokens of apps only.

Snapshots and filters, which are about CRM objects, are not served. Source: docs/hubspot.rst (Journal).
"""

from __future__ import annotations

import secrets
from typing import Any

from flask import Blueprint, request

from ..behaviour import shapes
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.journal import EVENT_TYPES, URL_MS, AppToken, JournalFile, JournalSubscription
from ..model.world import JSON, iso, now_ms
from .wire import bearer, bearer_value, json_body, on, whole

bp = Blueprint("journal", __name__)

VERSIONS = ("2026-03", "2026-09", "2027-03-beta")
BASES = [f"/webhooks-journal/{kind}/{version}" for kind in ("journal", "journal-local") for version in VERSIONS]
SUBSCRIPTIONS = [f"/webhooks-journal/subscriptions/{version}" for version in VERSIONS]
READ = "developer.webhooks_journal.read"
READ_SUBSCRIPTIONS = "developer.webhooks_journal.subscriptions.read"
WRITE_SUBSCRIPTIONS = "developer.webhooks_journal.subscriptions.write"
MOST_FILES = 100
"""Files that one call tells of."""
ACTIONS = frozenset(
    {*EVENT_TYPES, "CREATE", "UPDATE", "DELETE", "MERGE", "RESTORE", "ASSOCIATION_ADDED", "ASSOCIATION_REMOVED"}
    | {"SNAPSHOT", "ADDED_TO_LIST", "REMOVED_FROM_LIST", "GDPR_DELETE"}
)
_ABOUT: JSON = {"actions!": [ACTIONS], "portalId!": int}
_OBJECTS: JSON = _ABOUT | {"objectTypeId!": str}
WANTED: dict[str, JSON] = {
    "APP_LIFECYCLE_EVENT": {"eventTypeId!": str, "properties!": [str]},
    "OBJECT": _OBJECTS | {"objectIds!": [int], "properties!": [str]},
    "ASSOCIATION": _OBJECTS | {"objectIds!": [int], "associatedObjectTypeIds!": [str]},
    "LIST_MEMBERSHIP": _ABOUT | {"listIds!": [int], "objectIds!": [int]},
    "GDPR_PRIVACY_DELETION": _OBJECTS,
}
"""What each type of subscription has to say."""


def app_token(sim: Simulation, scope: str) -> AppToken:
    """The token of an app in this request. A portal's token does not have these scopes. Raises ApiError."""
    found = sim.world.journal.tokens.get(bearer_value())
    if found is None:
        bearer(sim, scope)
        raise ApiError(401, "INVALID_AUTHENTICATION", "The journal takes the token of an app")
    if found.expires_ms <= now_ms():
        raise ApiError(401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired")
    if scope not in found.scopes or sim.chaos.journal == "no_scope":
        raise ApiError.scopes(scope)
    return found


# --- its files


def kept(sim: Simulation) -> list[JournalFile]:
    """The files that the caller may read, oldest first."""
    app_id = app_token(sim, READ).app_id
    portal_id = request.args.get("installPortalId")
    if portal_id is not None:
        whole(portal_id, "installPortalId", 0, 2**31 - 1)
    return [one for one in sim.world.journal.kept(app_id, now_ms()) if one.has(portal_id)]


def after(sim: Simulation, offset: str) -> list[JournalFile]:
    """The files after an offset; what becomes of one that is gone, nobody knows: see ``journal_gone``."""
    files = kept(sim)
    place = next((number for number, one in enumerate(files) if one.offset == offset), None)
    if place is not None:
        return files[place + 1 :]
    if sim.chaos.journal_gone == 204:
        return []
    status: int = sim.chaos.journal_gone
    raise ApiError(status, {404: "OBJECT_NOT_FOUND"}.get(status, "VALIDATION_ERROR"), "There is no such offset")


def shape(sim: Simulation, file: JournalFile) -> JSON:
    """``JournalFetchResponse``: the address of a file, which is good for a while and for everybody."""
    signature, until = secrets.token_hex(32), now_ms() + URL_MS
    sim.world.journal.urls[signature] = file, until
    url = f"{request.host_url.rstrip('/')}/journal-files/{file.offset}.json?signature={signature}"
    return {"url": url, "expiresAt": iso(until), "currentOffset": file.offset}


def one_of(sim: Simulation, files: list[JournalFile]) -> Any:
    """The first of some files, or 204."""
    return shape(sim, files[0]) if files else ("", 204)


def batch(sim: Simulation, files: list[JournalFile]) -> JSON:
    """``BatchResponseJournalFetchResponse``."""
    now = iso(now_ms())
    results = [shape(sim, one) for one in files]
    return {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}


def count_of(count: str) -> int:
    """How many files are asked for."""
    return min(whole(count, "count", 1, 10**9), MOST_FILES)


@on(bp, "GET", BASES, "/earliest")
def earliest() -> Any:
    sim = current()
    return one_of(sim, kept(sim))


@on(bp, "GET", BASES, "/latest")
def latest() -> Any:
    sim = current()
    return one_of(sim, kept(sim)[-1:])


@on(bp, "GET", BASES, "/offset/<offset>/next")
def following(offset: str) -> Any:
    sim = current()
    return one_of(sim, after(sim, offset))


@on(bp, "GET", BASES, "/batch/earliest/<count>")
def batch_earliest(count: str) -> Any:
    sim = current()
    return batch(sim, kept(sim)[: count_of(count)])


@on(bp, "GET", BASES, "/batch/latest/<count>")
def batch_latest(count: str) -> Any:
    sim = current()
    return batch(sim, kept(sim)[-count_of(count) :])


@on(bp, "GET", BASES, "/batch/<offset>/next/<count>")
def batch_following(offset: str, count: str) -> Any:
    sim = current()
    return batch(sim, after(sim, offset)[: count_of(count)])


@on(bp, "POST", BASES, "/batch/read")
def batch_read() -> Any:
    """The files at these offsets; 207 when there is not every one."""
    sim = current()
    files = {one.offset: one for one in kept(sim)}
    inputs = json_body({"inputs!": [str]})["inputs"]
    answer = batch(sim, [files[one] for one in inputs if one in files])
    gone = [one for one in inputs if one not in files]
    if not gone:
        return answer
    error: JSON = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Offsets not found"}
    return {**answer, "numErrors": 1, "errors": [{**error, "context": {"ids": gone}, "errors": [], "links": {}}]}, 207


@bp.get("/journal-files/<name>")
def file(name: str) -> Any:
    """A file, from a storage that is not HubSpot's: its address is signed, and a bearer beside that is refused."""
    sim = current()
    if "Authorization" in request.headers:
        raise ApiError(400, "INVALID_ARGUMENT", "Only one mechanism of authentication is allowed")
    found, until = sim.world.journal.urls.get(request.args.get("signature", ""), (None, 0))
    if found is None or until <= now_ms() or name != f"{found.offset}.json":
        raise ApiError(403, "ACCESS_DENIED", "The address is not signed, or has expired")
    return {"offset": found.offset, "journalEvents": found.events, "publishedAt": iso(found.published_ms)}


# --- what an app subscribes to


def subscription(item: JournalSubscription) -> JSON:
    """``SubscriptionResponse``."""
    given, made = item.given, iso(item.created_ms)
    of_type = [action for action, event_type in EVENT_TYPES.items() if event_type == item.event_type]
    return shapes.given(
        **{name: given.get(name) for name in ("associatedObjectTypeIds", "listIds", "objectIds", "portalId")},
        id=item.id,
        appId=int(item.app_id),
        subscriptionType=given["subscriptionType"],
        objectTypeId=item.event_type,
        actions=given.get("actions") or of_type,
        properties=given.get("properties"),
        createdAt=made,
        updatedAt=made,
    )


def find(sim: Simulation, number: str, scope: str) -> JournalSubscription:
    """A subscription of the caller's, else 404."""
    app_id = app_token(sim, scope).app_id
    found = sim.world.journal.subscriptions.get(int(number) if number.isdecimal() and len(number) < 19 else 0)
    if found is None or found.app_id != app_id:
        raise ApiError.missing("Subscription")
    return found


@on(bp, "GET", SUBSCRIPTIONS)
def list_subscriptions() -> Any:
    sim = current()
    app_id = app_token(sim, READ_SUBSCRIPTIONS).app_id
    return {"results": [subscription(one) for one in sim.world.journal.subscriptions.values() if one.app_id == app_id]}


@on(bp, "POST", SUBSCRIPTIONS)
def subscribe() -> Any:
    """Make a subscription, or answer the one that is the same: HubSpot calls it an upsert."""
    sim = current()
    app_id = app_token(sim, WRITE_SUBSCRIPTIONS).app_id
    kind = json_body({"subscriptionType!": frozenset(WANTED)})["subscriptionType"]
    body = json_body(WANTED[kind])
    given = {name.rstrip("!"): body[name.rstrip("!")] for name in WANTED[kind]} | {"subscriptionType": kind}
    for one in sim.world.journal.subscriptions.values():
        if (one.app_id, one.given) == (app_id, given):
            return subscription(one)
    made = JournalSubscription(int(sim.ids.large()), app_id, given, now_ms())
    sim.world.journal.subscriptions[made.id] = made
    return subscription(made)


@on(bp, "GET", SUBSCRIPTIONS, "/<number>")
def get_subscription(number: str) -> Any:
    return subscription(find(current(), number, READ_SUBSCRIPTIONS))


@on(bp, "DELETE", SUBSCRIPTIONS, "/<number>")
def delete_subscription(number: str) -> Any:
    sim = current()
    del sim.world.journal.subscriptions[find(sim, number, WRITE_SUBSCRIPTIONS).id]
    return "", 204


@on(bp, "DELETE", SUBSCRIPTIONS, "/portals/<portal_id>")
def delete_subscriptions_of(portal_id: str) -> Any:
    """End what an app wants to be told of one portal."""
    sim = current()
    app_id, there = app_token(sim, WRITE_SUBSCRIPTIONS).app_id, sim.world.journal.subscriptions
    whole(portal_id, "portalId", 0, 10**9 - 1)
    for one in list(there.values()):
        if one.app_id == app_id and str(one.given.get("portalId")) == portal_id:
            del there[one.id]
    return "", 204
