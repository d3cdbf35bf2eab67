"""Hold the content of the app's file and of the webhooks' file against what is wanted. Pure.

Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..scopes import FILES_SCOPES, LEGACY_FILES_SCOPE
from ..subscriptions import SUBSCRIPTIONS
from .kinds import INIT, Kind
from .wanted import DISTRIBUTIONS, Wanted, description_problems, name_problems, quoted

Finding = tuple[Kind, str, str]
"""The kind of difference, what is wrong, and what puts it right."""
SCOPE_LISTS = ("requiredScopes", "optionalScopes", "conditionallyRequiredScopes")


def app_values(config: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """Return where an app's ``config`` differs, its variables filled in."""
    name, description = config.get("name"), config.get("description")
    for kind, value, problems in (
        (Kind.APP_NAME, name, name_problems),
        (Kind.DESCRIPTION, description, description_problems),
    ):
        if not isinstance(value, str):
            yield kind, f"There is no {kind}.", INIT
            continue
        for problem in problems(value):
            what, _, fix = problem.partition(": ")
            yield kind, f"{what}.", f"{fix[0].upper()}{fix[1:]}"
    for kind, have, want in (
        (Kind.APP_NAME, name, wanted.name),
        (Kind.DESCRIPTION, description, wanted.description),
        (Kind.DISTRIBUTION, config.get("distribution"), wanted.distribution),
    ):
        if want is not None and have != want:
            yield kind, f"It is {quoted(have)}, and {quoted(want)} is wanted.", INIT
    if config.get("distribution") not in DISTRIBUTIONS:
        what = f"The distribution is {quoted(config.get('distribution'))}."
        yield Kind.DISTRIBUTION, what, f"Write {' or '.join(map(quoted, DISTRIBUTIONS))}."
    support = config.get("support")
    have = support if isinstance(support, dict) else {}
    for key, want in wanted.support.items():
        if have.get(key) != want:
            yield Kind.SUPPORT, f"{key} is {quoted(have.get(key))}, and {quoted(want)} is wanted.", INIT
    auth = config.get("auth")
    yield from _auth(auth if isinstance(auth, dict) else {}, wanted)


def _auth(auth: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    if auth.get("type") != "oauth":
        yield Kind.AUTH, f"The auth type is {quoted(auth.get('type'))}: accounts are connected by oauth.", INIT
    redirects = _texts(auth.get("redirectUrls"))
    for url in wanted.redirect_urls:
        if url not in redirects:
            yield Kind.REDIRECT, f"{url} is not among the redirectUrls: HubSpot would send nobody back there.", INIT
    for url in redirects:
        if not url.startswith(("https://", "http://localhost:", "http://localhost/")) and "${" not in url:
            what = f"{quoted(url)} is a redirect URL that HubSpot refuses: it takes https, and http://localhost."
            yield Kind.REDIRECT, what, "Take it out, or write it with https."
    yield from _scopes(auth, wanted)


def _scopes(auth: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    required = _texts(auth.get("requiredScopes"))
    known = {scope for key in SCOPE_LISTS for scope in _texts(auth.get(key))}
    for scope in wanted.scopes:
        if scope not in required:
            where = "is not among the requiredScopes" if scope not in known else "is not required, only optional"
            yield Kind.SCOPE_MISSING, f"The scope {quoted(scope)} {where}.", INIT
    for scope in required:
        if scope not in wanted.scopes and scope != LEGACY_FILES_SCOPE:
            what = (
                f"The file requires the scope {quoted(scope)}, and this app does not ask for it: nobody could install."
            )
            yield Kind.SCOPE_EXTRA, what, f"Take it out, or set HUBSPOT_HITL_SCOPES={','.join(_all(wanted, required))}."
    if LEGACY_FILES_SCOPE in known:
        what = f"The scope {LEGACY_FILES_SCOPE} is refused: project apps have {' and '.join(FILES_SCOPES)}."
        yield Kind.SCOPE_REFUSED, what, INIT


def _all(wanted: Wanted, required: list[str]) -> list[str]:
    return [*wanted.scopes, *(one for one in required if one not in wanted.scopes and one != LEGACY_FILES_SCOPE)]


def webhook_values(config: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """Return where the webhooks' ``config`` differs, its variables filled in."""
    settings, subscriptions = config.get("settings"), config.get("subscriptions")
    target = settings.get("targetUrl") if isinstance(settings, dict) else None
    if target != wanted.target_url:
        yield Kind.TARGET, f"The targetUrl is {quoted(target)}, and {wanted.target_url} is wanted.", INIT
    events = subscriptions.get("hubEvents") if isinstance(subscriptions, dict) else None
    have = [one for one in events if isinstance(one, dict)] if isinstance(events, list) else []
    for want in SUBSCRIPTIONS:
        same = [one for one in have if is_same(one, want.event_type, want.property_name)]
        if not same:
            yield Kind.SUBSCRIPTION_MISSING, f"{want} is not among the hubEvents.", INIT
        elif not any(one.get("active") is True for one in same):
            yield Kind.SUBSCRIPTION_PAUSED, f"{want} is not active.", INIT


def is_same(event: Mapping[str, Any], event_type: str, property_name: str | None) -> bool:
    """Return True when an entry of ``hubEvents`` is the subscription."""
    return event.get("subscriptionType") == event_type and (event.get("propertyName") or None) == property_name


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
