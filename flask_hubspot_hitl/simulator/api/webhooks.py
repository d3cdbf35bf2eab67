"""Webhook settings and subscriptions of an app: v3, 2026-03 and the renamed 2026-09.

Source: docs/hubspot.rst (Subscriptions API).
"""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, request

from ..behaviour import shapes
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.subscriptions import PROPERTIES, TYPES
from ..model.world import JSON, App, Subscription, iso, now_ms
from .wire import developer_app, json_body, on

bp = Blueprint("webhooks", __name__)

BASES = ("/webhooks/v3/<app_id>", "/webhooks/2026-03/<app_id>", "/app-webhooks/2026-09/<app_id>")
MAX_SUBSCRIPTIONS = 1000


CATEGORIES = {400: "VALIDATION_ERROR", 403: "FORBIDDEN", 404: "OBJECT_NOT_FOUND"}


def developer(sim: Simulation, app_id: str) -> App:
    """The app named in the path, by its developer key (2026-09 accepts nothing else).

    Legacy public apps only: how others are refused is not documented (docs/hubspot.rst: Unknowns 21).
    """
    app = developer_app(sim, app_id, bearer_too="2026-09" not in request.path)
    if app.kind != "legacy-public":
        status = sim.chaos.webhooks_refusal
        why = "The webhooks API is for legacy public apps: this app's webhooks are set where the app itself is"
        raise ApiError(status, CATEGORIES[status], why)
    return app


def settings(app: App) -> JSON:
    """``SettingsResponse``."""
    return {
        "targetUrl": app.target_url or "",
        "throttling": {"maxConcurrentRequests": app.max_concurrent},
        "createdAt": iso(app.settings_ms),
    }


def shape(item: Subscription) -> JSON:
    """``SubscriptionResponse``."""
    return shapes.given(
        id=item.id,
        eventType=item.event_type,
        propertyName=item.property_name,
        active=item.active,
        createdAt=iso(item.created_ms),
        updatedAt=shapes.time_of(item.updated_ms),
        **item.more,
    )


@on(bp, "GET", BASES, "/settings")
def get_settings(app_id: str) -> Any:
    app = developer(current(), app_id)
    if app.target_url is None:
        raise ApiError.missing("Webhook settings")
    return settings(app)


@on(bp, "PUT", BASES, "/settings")
def put_settings(app_id: str) -> Any:
    """Unlike HubSpot, plain http to this machine will do."""
    app = developer(current(), app_id)
    body = json_body({"targetUrl!": str, "throttling!": {"maxConcurrentRequests!": int}})
    if not re.fullmatch(r"https?://[!-~]+", body["targetUrl"]):
        raise ApiError.invalid("targetUrl", "must be a URL")
    if body["throttling"]["maxConcurrentRequests"] <= 5:
        raise ApiError.invalid("throttling.maxConcurrentRequests", "must be more than 5")
    if body["throttling"]["maxConcurrentRequests"] >= 2**31:
        raise ApiError.invalid("throttling.maxConcurrentRequests", "is too large")
    app.target_url, app.max_concurrent = body["targetUrl"], body["throttling"]["maxConcurrentRequests"]
    return settings(app)


@on(bp, "DELETE", BASES, "/settings")
def delete_settings(app_id: str) -> Any:
    """Nothing is delivered any more; subscriptions are paused, not removed."""
    app = developer(current(), app_id)
    app.target_url = None
    for item in app.subscriptions.values():
        switch(item, False)
    return "", 204


@on(bp, "GET", BASES, "/subscriptions")
def list_subscriptions(app_id: str) -> Any:
    return {"results": [shape(item) for item in developer(current(), app_id).subscriptions.values()]}


@on(bp, "POST", BASES, "/subscriptions")
def create_subscription(app_id: str) -> Any:
    sim = current()
    app = developer(sim, app_id)
    needed = "!" if "2026-09" in request.path else ""
    texts = dict.fromkeys(("propertyName", "objectTypeId", "eventTypeName"), str)
    body = json_body({"eventType!": TYPES, f"active{needed}": bool, **texts})
    kind, name = body["eventType"], body.get("propertyName")
    if kind == "conversation.propertyChange" and name not in PROPERTIES:
        raise ApiError.invalid("propertyName", f"must be one of {sorted(PROPERTIES)}")
    if not kind.endswith(".propertyChange"):
        name = None
    elif not name:
        raise ApiError.invalid("propertyName", "is required for this event type")
    more = shapes.given(objectTypeId=body.get("objectTypeId"), eventTypeName=body.get("eventTypeName"))
    if any((s.event_type, s.property_name, s.more) == (kind, name, more) for s in app.subscriptions.values()):
        raise ApiError(409, "CONFLICT", "There is such a subscription already")
    if len(app.subscriptions) >= MAX_SUBSCRIPTIONS:
        why = "Couldn't create another subscription. You've reached the maximum number of webhook subscriptions (1000)."
        raise ApiError(400, "VALIDATION_ERROR", why)
    made = Subscription(sim.ids.small(), kind, name, body.get("active") is True, now_ms(), more=more)
    app.subscriptions[made.id] = made
    return shape(made), 201


def find(app: App, number: str) -> Subscription:
    """A subscription of the app, else 404."""
    if number not in app.subscriptions:
        raise ApiError.missing("Subscription")
    return app.subscriptions[number]


def switch(item: Subscription, active: bool) -> None:
    """Turn a subscription on or off."""
    item.active, item.updated_ms = active, now_ms()


@on(bp, "GET", BASES, "/subscriptions/<number>")
def get_subscription(app_id: str, number: str) -> Any:
    return shape(find(developer(current(), app_id), number))


@on(bp, "PATCH", BASES, "/subscriptions/<number>")
def update_subscription(app_id: str, number: str) -> Any:
    item = find(developer(current(), app_id), number)
    body = json_body({"active": bool})
    if body.get("active") is not None:
        switch(item, body["active"])
    return shape(item)


@on(bp, "DELETE", BASES, "/subscriptions/<number>")
def delete_subscription(app_id: str, number: str) -> Any:
    app = developer(current(), app_id)
    del app.subscriptions[find(app, number).id]
    return "", 204


@on(bp, "POST", BASES, "/subscriptions/batch/update")
def update_subscriptions(app_id: str) -> Any:
    app = developer(current(), app_id)
    started = iso(now_ms())
    results, unknown = [], []
    for item in json_body({"inputs!": [{"id!": int, "active!": bool}]})["inputs"]:
        if not -(2**31) <= item["id"] < 2**31:
            raise ApiError.invalid("inputs.id", "must be a whole number of 32 bits")
        found = app.subscriptions.get(str(item["id"]))
        if found is None:
            unknown.append(str(item["id"]))
            continue
        switch(found, item["active"])
        results.append(shape(found))
    answer: JSON = {"status": "COMPLETE", "results": results, "startedAt": started, "completedAt": iso(now_ms())}
    if not unknown:
        return answer
    error: JSON = {"status": "error", "category": "SUBSCRIPTION_ID_NOT_FOUND", "message": "Subscriptions not found"}
    error |= {"context": {"ids": unknown}, "errors": [], "links": {}}
    return {**answer, "numErrors": 1, "errors": [error]}, 207
