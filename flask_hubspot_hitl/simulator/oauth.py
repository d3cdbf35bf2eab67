"""OAuth: the consent page, tokens v1, v3, 2026-03 and 2026-09, and who-am-I (facts §8)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, redirect, render_template, request

from .simulation import Simulation, current
from .wire import ApiError, bearer, on
from .world import JSON, SCOPES, App, Install, Token, now_ms

bp = Blueprint("oauth", __name__)

TOKEN = ("/oauth/v1/token", "/oauth/v3/token", "/oauth/2026-03/token", "/oauth/2026-09/token")
FAMILIES = TOKEN[1:]
VERSIONS = ("v3", "2026-03", "2026-09")


def refused(status: str, message: str, error: str = "invalid_grant") -> ApiError:
    """400: v1's ``status`` and RFC 6749's ``error`` in one body (facts §8.4)."""
    problem = ApiError(400, "VALIDATION_ERROR", message, error=error, error_description=message)
    problem.body["status"] = status
    return problem


def form() -> dict[str, str]:
    """The form of the request; the token families take nothing else."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise ApiError(415, "VALIDATION_ERROR", "The content type must be application/x-www-form-urlencoded")
    return dict(request.form.items())


def client_of(sim: Simulation, given: dict[str, str]) -> App:
    """The app whose client id and secret are in the form."""
    app = next((a for a in sim.world.apps.values() if a.client_id == given.get("client_id")), None)
    if app is None:
        raise refused("BAD_CLIENT_ID", "missing or unknown client id", "invalid_client")
    if app.client_secret != given.get("client_secret"):
        raise refused("BAD_CLIENT_SECRET", "missing or invalid client secret", "invalid_client")
    return app


def issue(sim: Simulation, made: Install) -> JSON:
    """A new access token, as ``AccessTokenResponse``."""
    value, seconds = sim.ids.secret("access"), sim.chaos.token_seconds
    expires_ms = now_ms() + seconds * 1000
    sim.world.tokens[value] = Token(value, made.app_id, made.portal_id, made.scopes, expires_ms)
    return {
        "token_type": "bearer",
        "token_use": "access_token",
        "access_token": value,
        "refresh_token": made.refresh_token,
        "expires_in": seconds,
        "hub_id": int(made.portal_id),
        "user_id": int(made.user_id),
        "scopes": list(made.scopes),
    }


@on(bp, "POST", TOKEN)
def token() -> Any:
    sim = current()
    given = form()
    app = client_of(sim, given)
    grant = given.get("grant_type")
    if grant == "refresh_token":
        made = sim.world.install_of(given.get("refresh_token", ""))
        if made is None or made.app_id != app.id or sim.chaos.revoked:
            raise refused("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        if sim.chaos.rotate_refresh_tokens:
            made.refresh_token = sim.ids.secret("refresh")
        return issue(sim, made)
    if grant == "authorization_code":
        code = sim.world.codes.pop(given.get("code", ""), None)
        if code is None or code[0] != app.id:
            raise refused("BAD_AUTH_CODE", "missing or invalid auth code")
        if code[2] != given.get("redirect_uri"):
            raise refused("BAD_REDIRECT_URI", "missing or invalid redirect uri")
        return issue(sim, sim.world.installs[app.id, code[1]])
    raise refused("BAD_GRANT_TYPE", "unsupported grant type", "unsupported_grant_type")


# --- introspection and revocation


def signed_token(found: Token, made: Install) -> JSON:
    """``SignedAccessToken``; its signatures mean nothing here."""
    return {
        "appId": int(found.app_id),
        "appInstallId": f"{found.app_id}-{found.portal_id}",
        "audience": "public",
        "expiresAt": found.expires_ms or 0,
        "hubId": int(found.portal_id),
        "hublet": "na1",
        "installingUserId": int(made.user_id),
        "isPrivateDistribution": False,
        "isServiceAccount": False,
        "isUserLevel": False,
        "newSignature": "sim",
        "scopeToScopeGroupPks": "",
        "scopes": "",
        "signature": "sim",
        "trialScopeToScopeGroupPks": "",
        "trialScopes": "",
        "userId": int(made.user_id),
    }


def live_token(sim: Simulation, value: str) -> tuple[Token, Install] | None:
    """An access token that still opens doors, and its installation."""
    found = sim.world.tokens.get(value)
    made = found and sim.world.installs.get((found.app_id, found.portal_id))
    if not found or not made or sim.chaos.revoked:
        return None
    return None if found.expires_ms is not None and found.expires_ms <= now_ms() else (found, made)


def describe(sim: Simulation, made: Install, value: str, scopes: tuple[str, ...]) -> JSON:
    """What access and refresh tokens have in common when they are looked at."""
    agent = sim.world.actors.get((made.portal_id, f"A-{made.user_id}"))
    return {
        "token": value,
        "user": agent.email if agent and agent.email else "admin@acme.test",
        "hub_domain": sim.world.portals[made.portal_id].domain,
        "hub_id": int(made.portal_id),
        "app_id": int(made.app_id),
        "client_id": sim.world.apps[made.app_id].client_id,
        "user_id": int(made.user_id),
        "scopes": list(scopes),
    }


def describe_access(sim: Simulation, found: Token, made: Install) -> JSON:
    """An access token, as introspection tells it."""
    left = 10**6 if found.expires_ms is None else max(0, (found.expires_ms - now_ms()) // 1000)
    more = {"expires_in": left, "is_private_distribution": False, "signed_access_token": signed_token(found, made)}
    return describe(sim, made, found.value, found.scopes) | more


def without(body: JSON, name: str) -> JSON:
    """A body without one property: v1's two token pages leave out one each."""
    return {key: value for key, value in body.items() if key != name}


@on(bp, "POST", FAMILIES, "/introspect")
def introspect() -> Any:
    sim = current()
    given = form()
    app = client_of(sim, given)
    value = given.get("token", "")
    live = live_token(sim, value)
    if live is not None and live[1].app_id == app.id:
        return describe_access(sim, *live) | {"active": True, "token_use": "access_token", "token_type": "access"}
    made = sim.world.install_of(value)
    if made is not None and made.app_id == app.id and not sim.chaos.revoked:
        more = {"active": True, "token_use": "refresh_token", "token_type": "refresh"}
        return describe(sim, made, value, made.scopes) | more
    return {"active": False}


@on(bp, "POST", FAMILIES, "/revoke")
def revoke() -> Any:
    """Revokes the refresh token only: access tokens live out their time (facts §8.2)."""
    sim = current()
    given = form()
    app = client_of(sim, given)
    made = sim.world.install_of(given.get("token", ""))
    if made is not None and made.app_id == app.id:
        made.refresh_token = sim.ids.secret("revoked")
    return {}


@on(bp, "GET", ("/oauth/v1/access-tokens",), "/<value>")
def access_token_info(value: str) -> Any:
    sim = current()
    live = live_token(sim, value)
    if live is None:
        raise ApiError.missing("Access token")
    return without(describe_access(sim, *live) | {"token_type": "access"}, "client_id")


@on(bp, "GET", ("/oauth/v1/refresh-tokens",), "/<value>")
def refresh_token_info(value: str) -> Any:
    sim = current()
    made = sim.world.install_of(value)
    if made is None or sim.chaos.revoked:
        raise ApiError.missing("Refresh token")
    return without(describe(sim, made, value, made.scopes) | {"token_type": "refresh"}, "app_id")


@on(bp, "DELETE", ("/oauth/v1/refresh-tokens",), "/<value>")
def delete_refresh_token(value: str) -> Any:
    sim = current()
    made = sim.world.install_of(value)
    if made is None:
        raise ApiError.missing("Refresh token")
    made.refresh_token = sim.ids.secret("revoked")
    return "", 204


# --- the browser's part


def authorize_request(sim: Simulation) -> tuple[App, str]:
    """The app and the redirect URI of a consent page; both must be right before anything is redirected."""
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
    unknown = set(request.args.get("scope", "").split()) - set(SCOPES) - {"files.read", "files.write"}
    if unknown:
        raise refused("BAD_SCOPE", f"unknown scopes {sorted(unknown)}", "invalid_scope")
    return app, uri


@on(bp, "GET", ("/oauth/authorize", "/oauth/<portal_id>/authorize"))
def authorize_page(portal_id: str | None = None) -> Any:
    """The consent page: which account to connect."""
    sim = current()
    app, _ = authorize_request(sim)
    portals = [p for p in sim.world.portals.values() if portal_id in (None, p.id)]
    scopes = request.args.get("scope", "").split()
    return render_template("authorize.html", app=app, portals=portals, scopes=scopes)


@on(bp, "POST", ("/oauth/authorize", "/oauth/<portal_id>/authorize"))
def authorize(portal_id: str | None = None) -> Any:
    """The admin's answer: back to the app with ``code`` and ``state``, or with ``error``."""
    sim = current()
    app, uri = authorize_request(sim)
    chosen = request.form.get("portal", "")
    answer = {"error": "access_denied", "error_description": "The user denied access"}
    if request.form.get("answer") == "allow":
        if chosen not in sim.world.portals or portal_id not in (None, chosen):
            raise ApiError.invalid("portal", "no such account")
        made = sim.world.installs.get((app.id, chosen))
        scopes = tuple(request.args.get("scope", "").split()) or SCOPES
        if made is None:
            user_id = sim.world.agents(chosen)[0].id.removeprefix("A-")
            made = Install(app.id, chosen, sim.ids.secret("refresh"), scopes, user_id)
            sim.world.installs[app.id, chosen] = made
        made.scopes = scopes
        code = sim.ids.secret("code")
        sim.world.codes[code] = (app.id, chosen, uri)
        answer = {"code": code}
    if "state" in request.args:
        answer["state"] = request.args["state"]
    parts = urlsplit(uri)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *answer.items()])
    return redirect(urlunsplit(parts._replace(query=query)), 302)


# --- who am I, and goodbye


@on(bp, "GET", [f"/account-info/{version}/details" for version in VERSIONS])
def account_details() -> Any:
    sim = current()
    made = bearer(sim.world, "oauth", revoked=sim.chaos.revoked)
    return {
        "portalId": int(made.portal_id),
        "accountType": "STANDARD",
        "timeZone": "Europe/Madrid",
        "companyCurrency": "EUR",
        "additionalCurrencies": [],
        "utcOffset": "+02:00",
        "utcOffsetMilliseconds": 7_200_000,
        "uiDomain": "app.hubspot.com",
        "dataHostingLocation": "na1",
    }


@on(bp, "DELETE", [f"/appinstalls/{version}/external-install" for version in VERSIONS])
def uninstall() -> Any:
    """Every token of the portal dies at once; no webhook tells of it (facts §8.4)."""
    sim = current()
    made = bearer(sim.world, revoked=sim.chaos.revoked)
    del sim.world.installs[made.app_id, made.portal_id]
    for value, found in list(sim.world.tokens.items()):
        if (found.app_id, found.portal_id) == (made.app_id, made.portal_id):
            del sim.world.tokens[value]
    return "", 204
