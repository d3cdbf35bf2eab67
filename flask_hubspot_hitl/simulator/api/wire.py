"""What all API families share: reading and checking a request, credentials, pages of a list. Knows no family."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, request

from ...hubspot import strict_json
from ..model.world import JSON, App, Channel, Install, World, now_ms

if TYPE_CHECKING:
    from ..engine.simulation import Simulation
from ..model.errors import ApiError

ANY = object()
LATEST_MS = 253_402_300_799_999  # the end of the year 9999
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})")
T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])


def on(bp: Blueprint, method: str, bases: Sequence[str], tail: str = "") -> Callable[[View], View]:
    """Register a view for ``method`` under each base path, one base per API version."""

    def register(view: View) -> View:
        for base in bases:
            bp.add_url_rule(base + tail, view_func=view, methods=[method])
        return view

    return register


# --- reading a request


def parse_json(raw: bytes, *, where: str = "body") -> Any:
    """Strict JSON: no NaN, no numbers or depths Python can't carry. Raises ApiError (400)."""
    try:
        return strict_json.loads(raw)
    except ValueError:
        raise ApiError.invalid(where, "Invalid input JSON") from None


def json_body(spec: JSON) -> JSON:
    """The request's JSON object, checked against ``spec`` (see `check`)."""
    raw = request.get_data()
    if raw and not request.is_json:
        raise ApiError(415, "VALIDATION_ERROR", "The content type must be application/json")
    if not raw and request.method == "PATCH":
        raise ApiError.invalid("body", "a change needs a body")
    body = parse_json(raw or b"{}")
    check(body, spec, "body")
    return dict(body)


class Int32:
    """Stands in a shape for a whole number of 32 bits, as the documents' ``int32``."""


def check(value: Any, spec: Any, where: str) -> None:
    """Check a JSON value against a small shape language; raises ApiError (400).

    A dict lists the properties of an object (``!`` after a name: required; null counts as absent; others are
    let through as HubSpot does), a one-item list an array, a frozenset the allowed strings, else a Python type.
    """
    if spec is ANY:
        return
    if isinstance(spec, dict):
        _check_object(value, spec, where)
    elif isinstance(spec, list):
        if not isinstance(value, list):
            raise ApiError.invalid(where, "must be an array")
        for number, item in enumerate(value):
            check(item, spec[0], f"{where}[{number}]")
    elif isinstance(spec, frozenset):
        if not isinstance(value, str) or value not in spec:
            raise ApiError.invalid(where, f"must be one of {sorted(spec)}")
    else:
        _check_type(value, spec, where)


def _check_object(value: Any, spec: JSON, where: str) -> None:
    if not isinstance(value, dict):
        raise ApiError.invalid(where, "must be an object")
    for key, inner in spec.items():
        name = key.rstrip("!")
        if value.get(name) is not None:
            check(value[name], inner, name if where == "body" else f"{where}.{name}")
        elif key.endswith("!"):
            raise ApiError.invalid(where, f"`{name}` is required")


def _check_type(value: Any, spec: type, where: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if spec is float:
        if not is_number or abs(value) > 1e300:
            raise ApiError.invalid(where, "must be a number")
    elif spec in (int, Int32):
        limit = 2**31 if spec is Int32 else 2**63
        if not is_number or isinstance(value, float) or abs(value) >= limit:
            raise ApiError.invalid(where, "must be an integer")
    elif not isinstance(value, spec):
        raise ApiError.invalid(where, f"must be a {spec.__name__}")


def without_nulls(value: Any) -> Any:
    """Copy a JSON value without properties that are null; HubSpot's schemas leave those out."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def moment_ms(value: Any, where: str) -> int:
    """Return a time given as ISO-8601 text or as epoch milliseconds, as epoch milliseconds."""
    if isinstance(value, str):
        if not MOMENT.fullmatch(value):
            raise ApiError.invalid(where, "must be an ISO-8601 time, such as 2026-10-01T09:15:30.123Z")
        try:
            parsed = datetime.fromisoformat(value)
            value = round(parsed.timestamp() * 1000)
        except (ValueError, OverflowError):
            raise ApiError.invalid(where, "must be an ISO-8601 time") from None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LATEST_MS:
        raise ApiError.invalid(where, "must be a time")
    return value


# --- credentials


def bearer_value() -> str:
    """Return the access token of this request, or an empty text. Private apps may use a header of their own."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return request.headers.get("private-app") or request.headers.get("private-app-legacy") or ""


def bearer(sim: Simulation, *scopes: str) -> Install:
    """The installation whose access token came as Bearer; it must have one of ``scopes``, if any are named.

    401 INVALID_AUTHENTICATION or EXPIRED_AUTHENTICATION, 403 MISSING_SCOPES (docs/hubspot.rst: Token errors).
    """
    token = sim.world.tokens.get(bearer_value())
    if token is None or sim.chaos.revoked:
        raise ApiError(401, "INVALID_AUTHENTICATION", "Authentication credentials not found or not valid")
    if token.expires_ms is not None and token.expires_ms <= now_ms():
        raise ApiError(401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired")
    made = sim.world.installs.get((token.app_id, token.portal_id))
    if made is None:
        raise ApiError(401, "INVALID_AUTHENTICATION", "The app is not installed in this account")
    if scopes and not set(scopes) & set(token.scopes):
        raise ApiError.scopes(*scopes)
    return made


def developer_app(sim: Simulation, app_id: str | None = None, *, bearer_too: bool) -> App:
    """The app a developer key stands for: ``?hapikey=…&appId=…``, no bearer needed. An account's apps share its key.

    Source: docs/hubspot.rst (Developer key and product tier).

    With ``bearer_too`` an access token of the app will do, as the v3 and 2026-03 documents name no credentials.
    """
    key = request.args.get("hapikey")
    wanted = app_id or request.args.get("appId")
    if key is not None and sim.chaos.hapikey == "ok":
        apps = [one for one in sim.world.apps.values() if one.developer_key == key]
        app = next((one for one in apps if wanted in (None, one.id)), None)
        if app is None:
            raise ApiError(401, "INVALID_AUTHENTICATION", "The developer API key is not valid for this app")
        return app
    if not bearer_too:
        raise ApiError(401, "INVALID_AUTHENTICATION", "This call needs the developer API key (hapikey)")
    app = sim.world.apps[bearer(sim).app_id]
    if wanted is not None and wanted != app.id:
        raise ApiError(403, "FORBIDDEN", "The token belongs to another app")
    return app


def find_channel(world: World, app_id: str, channel_id: str) -> Channel:
    """A visible channel of the app, else 404."""
    channel = world.channels.get(channel_id)
    if channel is None or channel.app_id != app_id or channel.archived or not world.visible(channel):
        raise ApiError.missing(f"Channel {channel_id[:40]}")
    return channel


# --- lists


def query_bool(name: str, default: bool = False) -> bool:
    """A boolean query parameter."""
    raw = request.args.get(name)
    if raw is None:
        return default
    if raw.lower() not in ("true", "false"):
        raise ApiError.invalid(name, "must be true or false")
    return raw.lower() == "true"


def query_list(name: str) -> list[str]:
    """A query parameter that may be repeated; HubSpot's own Python client sends one with commas instead."""
    given = request.args.getlist(name)
    return [*given, *(part for item in given if "," in item for part in item.split(","))]


def whole(value: Any, where: str, low: int, high: int) -> int:
    """A small whole number given as text or as a number."""
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not low <= int(text) <= high:
        raise ApiError.invalid(where, f"must be a whole number from {low} to {high}")
    return int(text)


def page(
    items: Iterable[T],
    shape: Callable[[T], JSON],
    *,
    page_size: int | None,
    total: bool,
    after: Any = None,
    limit: Any = None,
) -> JSON:
    """One page of a list: ``results``, ``paging`` unless it is the last, ``total`` where the family has it.

    ``after`` and ``limit`` come from the query unless given. The link points at HubSpot's host, as the real one
    does: a client must page by the cursor.
    """
    everything = list(items)
    start = whole(request.args.get("after", "0") if after is None else after, "after", 0, 10**9)
    size = whole(request.args.get("limit", "100") if limit is None else limit, "limit", 1, 10**9)
    size = min(size, page_size or 500)
    answer: JSON = {"results": [shape(item) for item in everything[start : start + size]]}
    paging: JSON = {}
    link = f"https://api.hubapi.com{request.path}"
    if start + size < len(everything):
        paging["next"] = {"after": str(start + size), "link": f"{link}?after={start + size}"}
    if total:
        answer["total"] = len(everything)
        if start > 0:
            before = max(0, start - size)
            paging["prev"] = {"before": str(before), "link": f"{link}?before={before}"}
    if paging:
        answer["paging"] = paging
    return answer
