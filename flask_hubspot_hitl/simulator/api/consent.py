"""The consent page of OAuth, where an admin connects the app to an account, in a browser.

Source: docs/hubspot.rst (Consent).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, redirect, render_template, request

from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import SCOPES, App, Code
from .oauth import refused
from .wire import on

bp = Blueprint("consent", __name__)

PATHS = ("/oauth/authorize", "/oauth/<portal_id>/authorize")
HAD = frozenset({*SCOPES, "files.read", "files.write"})
"""The scopes an account can grant."""


def authorize_request(sim: Simulation) -> tuple[App, str, tuple[str, ...]]:
    """Return app, redirect URI and scopes of a consent page; all must be right before anything is redirected."""
    app = next((a for a in sim.world.apps.values() if a.client_id == request.args.get("client_id")), None)
    if app is None:
        raise refused("BAD_CLIENT_ID", "missing or unknown client id", "invalid_client")
    uri = request.args.get("redirect_uri", "")
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not local):
        raise refused("BAD_REDIRECT_URI", "the redirect uri must be https, or http on this machine", "invalid_request")
    if app.redirect_uris and uri not in app.redirect_uris:
        raise refused("BAD_REDIRECT_URI", "the redirect uri is not one of the app's", "invalid_request")
    asked = request.args.get("scope", "").split()
    unknown, missing = sorted(set(asked) - HAD), [scope for scope in app.required_scopes if scope not in asked]
    if unknown or missing:
        raise refused("BAD_SCOPE", f"unknown scopes {unknown}, missing scopes {missing}", "invalid_scope")
    optional = [scope for scope in request.args.get("optional_scope", "").split() if scope in HAD]
    return app, uri, tuple(dict.fromkeys([*asked, *optional]))


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
