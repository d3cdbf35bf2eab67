"""The consent page of OAuth, where an admin connects the app to an account, in a browser.

Source: docs/hubspot.rst (Consent; Scopes; Project apps).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, redirect, render_template, request

from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.scopes import known_to
from ..model.world import JSON, App, Code
from .oauth import refused
from .wire import on

bp = Blueprint("consent", __name__)

PATHS = ("/oauth/authorize", "/oauth/<portal_id>/authorize")
MISMATCH = (
    "Authorization failed because there is a mismatch between the scopes in the install URL and the app's configured "
    "scopes. Please contact the app developer."
)
NO_SUCH_SCOPE = "An invalid scope name was provided. Please contact the app developer."
FULL = "An app with {} distribution that is not listed can be installed in {} accounts, and this one is in as many."


@bp.errorhandler(ApiError)
def told(problem: ApiError) -> Any:
    """Show a browser a page, and everybody else HubSpot's error body."""
    if request.accept_mimetypes.best_match(("application/json", "text/html")) != "text/html":
        return problem.body, problem.status
    lines = [f"{name}: {', '.join(values)}" for name, values in problem.body.get("context", {}).items()]
    words = problem.body["message"]
    return render_template(
        "refused.html", title="Couldn't complete the connection", words=words, lines=lines
    ), problem.status


def authorize_request(sim: Simulation) -> tuple[App, str, tuple[str, ...]]:
    """Return app, redirect URI and scopes of a consent page; all must be right before anything is redirected."""
    app = next((a for a in sim.world.apps.values() if a.client_id == request.args.get("client_id")), None)
    if app is None:
        raise refused("BAD_CLIENT_ID", "missing or unknown client id", "invalid_client")
    if app.auth != "oauth":
        raise refused("BAD_CLIENT_ID", "the app has a static token and no OAuth", "unauthorized_client")
    uri = request.args.get("redirect_uri", "")
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not local):
        raise refused("BAD_REDIRECT_URI", "the redirect uri must be https, or http on this machine", "invalid_request")
    if (app.redirect_uris or app.project) and uri not in app.redirect_uris:
        raise refused("BAD_REDIRECT_URI", "the redirect uri is not one of the app's", "invalid_request")
    return app, uri, granted(sim, app)


def granted(sim: Simulation, app: App) -> tuple[str, ...]:
    """Return the scopes that an account grants: those asked for, and of the optional ones those it has.

    All that the app requires must be asked for, and nothing that it does not name. ``oauth`` belongs to every app.
    """
    asked, optional = (request.args.get(name, "").split() for name in ("scope", "optional_scope"))
    known = known_to(app.kind, legacy_has_new=sim.chaos.legacy_new_scopes)
    unknown = [scope for scope in asked if scope not in known]
    if unknown:
        raise bad_scope(NO_SUCH_SCOPE, {"Not a scope of this kind of app": unknown})
    missing = [scope for scope in app.required_scopes if scope not in asked]
    foreign = []
    if app.optional_scopes is not None:
        named = {"oauth", *app.required_scopes, *app.optional_scopes}
        foreign = [scope for scope in (*asked, *optional) if scope not in named]
    if missing or foreign:
        both = {"Required by the app and not asked for": missing, "Asked for and not named by the app": foreign}
        raise bad_scope(MISMATCH, {name: scopes for name, scopes in both.items() if scopes})
    return tuple(dict.fromkeys([*asked, *(scope for scope in optional if scope in known)]))


def bad_scope(words: str, context: JSON) -> ApiError:
    """Make the refusal of scopes; ``context`` is what the stand-in tells beside HubSpot's words."""
    problem = refused("BAD_SCOPE", words, "invalid_scope")
    problem.body["context"] = context
    return problem


@on(bp, "GET", PATHS)
def authorize_page(portal_id: str | None = None) -> Any:
    """Show the consent page: which account to connect."""
    sim = current()
    app, _, scopes = authorize_request(sim)
    portals = [p for p in sim.world.portals.values() if portal_id in (None, p.id)]
    return render_template("authorize.html", app=app, portals=portals, scopes=scopes)


@on(bp, "POST", PATHS)
def authorize(portal_id: str | None = None) -> Any:
    """Take the admin's answer: send the browser back to the app with ``code`` and ``state``, or with ``error``."""
    sim = current()
    app, uri, scopes = authorize_request(sim)
    chosen = request.form.get("portal", "")
    answer = {"error": "access_denied", "error_description": "The user denied access"}
    if request.form.get("answer") == "allow":
        if chosen not in sim.world.portals or portal_id not in (None, chosen):
            raise ApiError.invalid("portal", "no such account")
        if sim.world.full(app, chosen):
            raise refused("INSTALL_LIMIT", FULL.format(app.distribution, app.may_install()), "access_denied")
        challenge, method = request.args.get("code_challenge"), request.args.get("code_challenge_method", "plain")
        if method not in ("S256", "plain"):
            raise refused("BAD_CODE_CHALLENGE", "unknown code challenge method", "invalid_request")
        code = sim.ids.secret("code")
        sim.world.codes[code] = Code(app.id, chosen, uri, scopes, challenge, method)
        answer = {"code": code}
    if "state" in request.args:
        answer["state"] = request.args["state"]
    parts = urlsplit(uri)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *answer.items()])
    return redirect(urlunsplit(parts._replace(query=query)), 302)
