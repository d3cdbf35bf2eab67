"""What ``hs project upload`` does: judges a project's app and webhooks, and makes the app or changes it.

Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..engine.project import VARIABLE, Component, read, refusal
from ..model import preset
from ..model.scopes import known_to
from ..model.subscriptions import CONVERSATIONS, LISTS, PROPERTIES
from ..model.world import JSON, App, Subscription, now_ms

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

LOOPBACK = ("localhost", "127.0.0.1", "::1")
NAME, DESCRIPTION = 200, 8192
"""How many characters these may have."""


def upload(sim: Simulation, files: Mapping[str, str], *, profile: str | None, account: str | None) -> JSON:
    """Upload a project: the same project of the same account is the same app.

    :param files: the project's files by path.
    :param profile: the profile to fill variables from.
    :param account: the developer account; by default the profile's, else the preset portal.
    :returns: the app's words, what became of the files, and whether the app is new.
    :raises ApiError: when HubSpot would refuse the project (400).
    """
    project = read(files, profile)
    app_file, hooks_file = project.of_type("app"), project.of_type("webhooks")
    wrong = list(project.wrong)
    if sim.chaos.project_flaws == "refused":
        wrong += project.lost.items()
    if app_file is not None:
        wrong += ((app_file.path, why) for why in app_problems(app_file.config))
    if hooks_file is not None:
        wrong += ((hooks_file.path, why) for why in webhooks_problems(hooks_file.config))
    if app_file is None and not wrong:
        wrong = [("hsproject.json", "There is no app component that can be read"), *project.lost.items()]
        wrong += project.misplaced.items()
    if app_file is None or wrong:
        raise refusal(wrong)
    owner = (project.name, account or project.account or preset.PORTAL_ID)
    app = next((one for one in sim.world.apps.values() if one.project == owner), None)
    created = app is None
    if app is None:
        app = new_app(sim, owner)
    configure(app, app_file.config)
    subscribe(sim, app, hooks_file)
    skipped = [{"path": path, "why": why} for path, why in (project.misplaced | project.lost).items()]
    return {
        "app_id": app.id,
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "developer_api_key": app.developer_key,
        "name": app.name,
        "kind": app.kind,
        "components": [{"uid": one.uid, "type": one.type, "path": one.path} for one in project.components],
        "skipped": skipped,
        "created": created,
    }


def new_app(sim: Simulation, owner: tuple[str, str]) -> App:
    """Make the app of a project that is uploaded for the first time; the apps of an account share a developer key."""
    ids, world = sim.ids, sim.world
    keys = [one.developer_key for one in world.apps.values() if one.project and one.project[1] == owner[1]]
    key = keys[0] if keys else ids.secret("developer-key")
    made = App(ids.small(), ids.secret("client"), ids.secret("client-secret"), key, kind="project", project=owner)
    world.apps[made.id] = made
    return made


def configure(app: App, config: JSON) -> None:
    """Make an app what its file says, and nothing else."""
    auth = config["auth"]
    app.name, app.distribution, app.auth = config["name"], config["distribution"], auth["type"]
    app.redirect_uris = tuple(auth.get("redirectUrls") or ())
    app.required_scopes = tuple(auth.get("requiredScopes") or ())
    app.optional_scopes = (*(auth.get("optionalScopes") or ()), *(auth.get("conditionallyRequiredScopes") or ()))


def subscribe(sim: Simulation, app: App, hooks: Component | None) -> None:
    """Make an app's webhooks what the project's file says; a subscription that was there keeps its id."""
    before = {(s.event_type, s.property_name, str(s.more)): s for s in app.subscriptions.values()}
    settings = {} if hooks is None else hooks.config["settings"]
    app.target_url, app.max_concurrent = settings.get("targetUrl"), settings.get("maxConcurrentRequests", 10)
    app.settings_ms, app.subscriptions = now_ms(), {}
    for _, item in [] if hooks is None else listed(hooks.config):
        more = {"objectTypeId": item["objectType"]} if item.get("objectType") else {}
        kind, name = item["subscriptionType"], item.get("propertyName")
        made = before.get((kind, name, str(more)))
        if made is None:
            made = Subscription(sim.ids.small(), kind, name, item["active"], now_ms(), more=more)
        elif made.active is not item["active"]:
            made.active, made.updated_ms = item["active"], now_ms()
        app.subscriptions[made.id] = made


def listed(config: JSON) -> Iterator[tuple[str, JSON]]:
    """Every subscription of a webhooks file, with the list that it is in."""
    lists = config.get("subscriptions") or {}
    for name in LISTS:
        for item in lists.get(name) or []:
            yield name, item


# --- what is refused: each yields what is wrong, in words


def app_problems(config: JSON) -> Iterator[str]:
    """An app's file."""
    yield from text_problems("name", config.get("name"), NAME)
    yield from text_problems("description", config.get("description"), DESCRIPTION)
    if isinstance(config.get("name"), str) and config["name"] != config["name"].strip():
        yield "name: must not begin or end with blanks"
    distribution, auth = config.get("distribution"), config.get("auth")
    if distribution not in ("private", "marketplace"):
        yield "distribution: must be private or marketplace"
    if not isinstance(auth, dict):
        yield "Missing required field: 'auth'"
        return
    if auth.get("type") not in ("oauth", "static"):
        yield "auth.type: must be oauth or static"
    if (distribution, auth.get("type")) == ("marketplace", "static"):
        yield "auth.type: marketplace distribution wants oauth; static is for private distribution"
    yield from auth_problems(auth)
    yield from permitted_problems(config.get("permittedUrls"))


def text_problems(name: str, value: Any, longest: int) -> Iterator[str]:
    """A text that has to be there."""
    if not isinstance(value, str) or not value:
        yield f"Missing required field: '{name}'"
    elif len(value) > longest:
        yield f"{name}: must have at most {longest} characters, and has {len(value)}"


def texts_problems(name: str, value: Any) -> Iterator[str]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        yield f"{name}: must be a list of texts"


def auth_problems(auth: JSON) -> Iterator[str]:
    """What an app's file says of redirect URLs and scopes."""
    urls = auth.get("redirectUrls") or []
    yield from texts_problems("auth.redirectUrls", urls)
    if auth.get("type") == "oauth" and not urls:
        yield "auth.redirectUrls: oauth wants at least one"
    for url in urls if isinstance(urls, list) else []:
        if isinstance(url, str) and not is_url(url, ("localhost",)):
            yield f"auth.redirectUrls: {url!r} must be https; http is for http://localhost only"
    if "requiredScopes" not in auth:
        yield "Missing required field: 'auth.requiredScopes'"
    known = known_to("project")
    for name in ("requiredScopes", "optionalScopes", "conditionallyRequiredScopes"):
        scopes = auth.get(name) or []
        yield from texts_problems(f"auth.{name}", scopes)
        unknown = [one for one in scopes if isinstance(one, str) and one not in known and not VARIABLE.search(one)]
        if unknown:
            yield f"auth.{name}: unknown scopes {', '.join(unknown)}"


def permitted_problems(permitted: Any) -> Iterator[str]:
    """The addresses that an app's extensions may ask."""
    if permitted is None:
        return
    if not isinstance(permitted, dict):
        yield "permittedUrls: must be an object"
        return
    for name, urls in permitted.items():
        if name not in ("fetch", "iframe", "img"):
            yield f"permittedUrls: unknown property {name!r}"
        yield from texts_problems(f"permittedUrls.{name}", urls)


def is_url(text: str, plain: tuple[str, ...]) -> bool:
    """Whether it is https, or http to one of a few hosts. What holds a variable that nobody filled stands."""
    if VARIABLE.search(text):
        return True
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return False
    right = parts.scheme == "https" or (parts.scheme == "http" and host in plain)
    return bool(right and host and re.fullmatch(r"[!-~]+", text))


def webhooks_problems(config: JSON) -> Iterator[str]:
    """A webhooks file. Unlike HubSpot, plain http to this machine will do as its target."""
    settings = config.get("settings")
    if not isinstance(settings, dict):
        yield "Missing required field: 'settings'"
        settings = {}
    elif not isinstance(settings.get("targetUrl"), str) or not is_url(settings["targetUrl"], LOOPBACK):
        yield "settings.targetUrl: must be an https address"
    most = settings.get("maxConcurrentRequests", 10)
    if not isinstance(most, int) or isinstance(most, bool) or not 0 < most < 2**31:
        yield "settings.maxConcurrentRequests: must be a whole number, 1 or more"
    yield from subscriptions_problems(config)


def subscriptions_problems(config: JSON) -> Iterator[str]:
    """The three lists of a webhooks file."""
    lists = config.get("subscriptions")
    if not isinstance(lists, dict):
        yield "Missing required field: 'subscriptions'"
        return
    for name in lists:
        if name not in LISTS:
            yield f"subscriptions: unknown property {name!r}"
        elif not isinstance(lists[name], list):
            yield f"subscriptions.{name}: must be a list"
            return
    seen: list[Any] = []
    for name, item in listed(config):
        if not isinstance(item, dict):
            yield f"subscriptions.{name}: must hold objects"
            continue
        yield from subscription_problems(name, item)
        key = [item.get(part) for part in ("subscriptionType", "propertyName", "objectType")]
        if key in seen:
            yield f"subscriptions.{name}: the same subscription twice"
        seen.append(key)


def subscription_problems(name: str, item: JSON) -> Iterator[str]:
    """One subscription of one of the three lists."""
    where = f"subscriptions.{name}"
    kind, changed = item.get("subscriptionType"), item.get("propertyName")
    if not isinstance(kind, str) or kind not in LISTS[name]:
        yield f"{where}: unknown subscriptionType {kind!r}"
        return
    if not isinstance(item.get("active"), bool):
        yield f"{where}: {kind} wants `active`, true or false"
    if kind.endswith(".propertyChange") and not isinstance(changed, str):
        yield f"{where}: {kind} wants a propertyName"
    elif kind in CONVERSATIONS and kind.endswith(".propertyChange") and changed not in PROPERTIES:
        yield f"{where}: {kind} has no propertyName {changed!r}; it has {', '.join(sorted(PROPERTIES))}"
    if name == "crmObjects" and not isinstance(item.get("objectType"), str):
        yield f"{where}: {kind} wants an objectType"
