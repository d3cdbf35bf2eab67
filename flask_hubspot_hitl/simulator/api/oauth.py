"""OAuth: tokens in v1, v3, 2026-03 and 2026-09, and who-am-I; the consent page is in ``consent.py``.

Source: docs/hubspot.rst (OAuth).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

from flask import Blueprint, request

from ..behaviour import lifecycle
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.journal import AppToken
from ..model.world import JSON, App, Code, Install, Token, now_ms
from .wire import bearer, json_body, on

bp = Blueprint("oauth", __name__)

TOKEN = ("/oauth/v1/token", "/oauth/v3/token", "/oauth/2026-03/token", "/oauth/2026-09/token")
FAMILIES = TOKEN[1:]
VERSIONS = ("v3", "2026-03", "2026-09")
APP_SCOPES = frozenset(
    f"developer.webhooks_journal.{what}" for what in ("read", "subscriptions.read", "subscriptions.write")
)
"""What an app may have a token of its own for."""


def refused(status: str, message: str, error: str = "invalid_grant") -> ApiError:
    """Make a 400: v1's ``status`` and RFC 6749's ``error`` in one body (docs/hubspot.rst: Token errors)."""
    problem = ApiError(400, "VALIDATION_ERROR", message, error=error, error_description=message)
    problem.body["status"] = status
    return problem


def form(sim: Simulation) -> dict[str, str]:
    """Return the form of the request; the token families take nothing else, but v1 two of its fields in the query."""
    in_query = {"client_secret", "refresh_token"} & set(request.args) if "/v1/" in request.path else set[str]()
    if in_query and not request.get_data():
        return dict(request.args.items())
    if sim.chaos.oauth_json and request.is_json:
        return {name: str(value) for name, value in json_body({}).items() if value is not None}
    if request.mimetype != "application/x-www-form-urlencoded":
        raise ApiError(415, "VALIDATION_ERROR", "The content type must be application/x-www-form-urlencoded")
    return {name: request.args[name] for name in in_query} | dict(request.form.items())


def client_of(sim: Simulation, given: dict[str, str]) -> App:
    """Return the app whose client id and secret are in the form."""
    app = next((a for a in sim.world.apps.values() if a.client_id == given.get("client_id")), None)
    if app is None:
        raise refused("BAD_CLIENT_ID", "missing or unknown client id", "invalid_client")
    if app.client_secret != given.get("client_secret"):
        raise refused("BAD_CLIENT_SECRET", "missing or invalid client secret", "invalid_client")
    return app


def issue(sim: Simulation, made: Install) -> JSON:
    """Issue an access token, as ``AccessTokenResponse``. It is long: HubSpot says to reserve 512 characters."""
    value, seconds = f"{sim.ids.secret('access')}-{secrets.token_hex(150)}", sim.chaos.token_seconds
    expires_ms = now_ms() + seconds * 1000
    sim.world.tokens[value] = Token(value, made.app_id, made.portal_id, made.scopes, expires_ms)
    made.used_ms = now_ms()
    lean = {
        "token_type": "bearer",
        "access_token": value,
        "refresh_token": made.refresh_token,
        "expires_in": seconds,
    }
    if sim.chaos.lean_v1_tokens and "/v1/" in request.path:
        return lean
    return lean | {
        "token_use": "access_token",
        "hub_id": int(made.portal_id),
        "user_id": int(made.user_id),
        "scopes": list(made.scopes),
    }


@on(bp, "POST", TOKEN)
def token() -> Any:
    sim = current()
    given = form(sim)
    app = client_of(sim, given)
    grant = given.get("grant_type")
    if grant == "refresh_token":
        made = sim.world.install_of(given.get("refresh_token", ""))
        if made is None or made.app_id != app.id or sim.chaos.revoked or idle(sim, made):
            raise refused("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        if sim.chaos.rotate_refresh_tokens:
            made.refresh_token = sim.ids.secret("refresh")
        if sim.chaos.refresh_kills_access:
            end_access(sim, made)
        return issue(sim, made)
    if grant == "authorization_code":
        return issue(sim, exchange(sim, app, given))
    if grant == "client_credentials":
        return issue_to_app(sim, app, given.get("scope", ""))
    raise refused("BAD_GRANT_TYPE", "unsupported grant type", "unsupported_grant_type")


def issue_to_app(sim: Simulation, app: App, scope: str) -> JSON:
    """Issue an access token to the app itself, without a refresh token (docs/hubspot.rst: Journal)."""
    scopes = tuple(scope.split())
    if not scopes or set(scopes) - APP_SCOPES or sim.chaos.journal == "refused":
        raise refused("BAD_SCOPE", "missing or invalid scope", "invalid_scope")
    value, seconds = f"{sim.ids.secret('app-access')}-{secrets.token_hex(150)}", sim.chaos.token_seconds
    sim.world.journal.tokens[value] = AppToken(value, app.id, scopes, now_ms() + seconds * 1000)
    return {"token_type": "bearer", "token_use": "access_token", "access_token": value, "expires_in": seconds}


def idle(sim: Simulation, made: Install) -> bool:
    """Return True when the refresh token was not used for longer than it may be."""
    seconds = sim.chaos.refresh_token_seconds
    return seconds is not None and made.used_ms is not None and now_ms() - made.used_ms > seconds * 1000


def end_access(sim: Simulation, made: Install) -> None:
    """End the installation's access tokens; static ones stay."""
    for found in sim.world.tokens.values():
        if (found.app_id, found.portal_id) == (made.app_id, made.portal_id) and found.expires_ms is not None:
            found.expires_ms = 0


def exchange(sim: Simulation, app: App, given: dict[str, str]) -> Install:
    """Return the installation an authorization code is for; only now the app is connected. A code works once."""
    code = sim.world.codes.pop(given.get("code", ""), None)
    if code is None or code.app_id != app.id:
        raise refused("BAD_AUTH_CODE", "missing or invalid auth code")
    if code.redirect_uri != given.get("redirect_uri"):
        raise refused("BAD_REDIRECT_URI", "missing or invalid redirect uri")
    if code.challenge is not None and not proves(code, given.get("code_verifier", "")):
        raise refused("BAD_AUTH_CODE", "missing or invalid code verifier")
    made = sim.world.installs.get((app.id, code.portal_id))
    if made is None:
        user_id = sim.world.agents(code.portal_id)[0].id.removeprefix("A-")
        made = Install(app.id, code.portal_id, sim.ids.secret("refresh"), code.scopes, user_id)
        sim.world.installs[app.id, code.portal_id] = made
        lifecycle.tell(sim, "APP_INSTALL", app.id, code.portal_id)
    made.scopes = code.scopes
    return made


def proves(code: Code, verifier: str) -> bool:
    """Return True when a PKCE verifier fits the challenge (RFC 7636)."""
    shown = verifier.encode("utf-8", "replace")
    if code.method == "S256":
        shown = base64.urlsafe_b64encode(hashlib.sha256(shown).digest()).rstrip(b"=")
    return hmac.compare_digest(shown, str(code.challenge).encode("utf-8", "replace"))


# --- introspection and revocation


def signed_token(found: Token, made: Install) -> JSON:
    """Make a ``SignedAccessToken``; its signatures mean nothing here."""
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
    """Return an access token that still opens doors, and its installation."""
    found = sim.world.tokens.get(value)
    made = found and sim.world.installs.get((found.app_id, found.portal_id))
    if not found or not made or sim.chaos.revoked:
        return None
    return None if found.expires_ms is not None and found.expires_ms <= now_ms() else (found, made)


def describe(sim: Simulation, made: Install, value: str, scopes: tuple[str, ...]) -> JSON:
    """Describe what access and refresh tokens have in common."""
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
    """Describe an access token, as introspection tells it."""
    left = 10**6 if found.expires_ms is None else max(0, (found.expires_ms - now_ms()) // 1000)
    more = {"expires_in": left, "is_private_distribution": False, "signed_access_token": signed_token(found, made)}
    return describe(sim, made, found.value, found.scopes) | more


def without(body: JSON, name: str) -> JSON:
    """Copy a body without one property: v1's two token pages leave out one each."""
    return {key: value for key, value in body.items() if key != name}


@on(bp, "POST", FAMILIES, "/introspect")
def introspect() -> Any:
    """Describe a token; one that is no good is ``active: false`` in 2026-09, which the older documents do not have."""
    sim = current()
    given = form(sim)
    app = client_of(sim, given)
    value = given.get("token", "")
    live = live_token(sim, value)
    if live is not None and live[1].app_id == app.id:
        return describe_access(sim, *live) | {"active": True, "token_use": "access_token", "token_type": "access"}
    made = sim.world.install_of(value)
    if made is not None and made.app_id == app.id and not sim.chaos.revoked:
        more = {"active": True, "token_use": "refresh_token", "token_type": "refresh"}
        return describe(sim, made, value, made.scopes) | more
    if "2026-09" in request.path:
        return {"active": False}
    raise ApiError.missing("Token")


@on(bp, "POST", FAMILIES, "/revoke")
def revoke() -> Any:
    """Revoke the refresh token only: access tokens live out their time (docs/hubspot.rst: Tokens)."""
    sim = current()
    given = form(sim)
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


@on(bp, "POST", ("/oauth/v2/private-apps/get/access-token-info",))
def private_app_token_info() -> Any:
    """Describe the static token of a private app (docs/hubspot.rst: Account information)."""
    sim = current()
    live = live_token(sim, json_body({"tokenKey!": str})["tokenKey"])
    if live is None or live[0].expires_ms is not None:
        raise ApiError.missing("Access token")
    found, made = live
    ids = {"userId": int(made.user_id), "hubId": int(made.portal_id), "appId": int(made.app_id)}
    return ids | {"scopes": list(found.scopes)}


# --- who am I, and goodbye


@on(bp, "GET", [f"/account-info/{version}/details" for version in VERSIONS])
def account_details() -> Any:
    sim = current()
    made = bearer(sim, "oauth")
    return {
        "portalId": int(made.portal_id),
        "accountType": "STANDARD",
        "timeZone": "Europe/Madrid",
        "companyCurrency": "EUR",
        "additionalCurrencies": [],
        "utcOffset": "+02:00",
        "utcOffsetMilliseconds": 7_200_000,
        "uiDomain": sim.world.portals[made.portal_id].ui_domain,
        "dataHostingLocation": "na1",
    }


@on(bp, "DELETE", [f"/appinstalls/{version}/external-install" for version in VERSIONS])
def uninstall() -> Any:
    """Uninstall the app: every token of the portal dies, no webhook tells of it (docs/hubspot.rst: Token errors)."""
    sim = current()
    made = bearer(sim)
    lifecycle.uninstall(sim, made)
    return "", 204
