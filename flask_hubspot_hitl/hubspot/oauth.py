"""Ask HubSpot's token endpoint, and write the address of HubSpot's consent page.

Of ours it may import ``errors`` (and its neighbours here); no Flask, no database. Source: HubSpot OpenAPI, OAuth v1,
v3, 2026-03 and 2026-09, ``POST …/token``; PKCE is RFC 7636.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import HubSpotError, HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, TokenRevoked
from .options import OAuthOptions
from .paths import OAUTH_VERSIONS, Paths, segment
from .transport import Gate, Transport

#: Milliseconds before its expiry at which a token is renewed.
RENEW_BEFORE_MS = 300_000


#: Connections that a token endpoint keeps open.
POOL_SIZE = 4
_NOT_THE_TOKEN = frozenset({"invalid_client", "unauthorized_client", "invalid_request", "unsupported_grant_type"})
"""OAuth errors (RFC 6749, section 5.2) that are about the app, not the token: the token is kept."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Hold what the token endpoint gave. ``refresh_token`` is the one to keep, new or not."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at_ms: int
    renew_at_ms: int
    hub_id: str | None = None
    scopes: tuple[str, ...] = ()


def authorize_url(
    base_url: str,
    *,
    client_id: str,
    redirect_uri: str,
    scopes: Sequence[str],
    state: str,
    code_verifier: str,
    portal_id: str | None = None,
) -> str:
    """Return the address of HubSpot's consent page.

    :param portal_id: the account that is chosen already; None: the person chooses.
    """
    digest = hashlib.sha256(code_verifier.encode("ascii")).digest()
    query = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(scopes),
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(digest).decode("ascii").rstrip("="),
        "code_challenge_method": "S256",
    }
    portal = "" if portal_id is None else f"/{segment(portal_id)}"
    return f"{base_url}/oauth{portal}/authorize?{urlencode(query, quote_via=quote)}"


class CodeRefused(HubSpotRejected):
    """Say that HubSpot does not take the authorization code: it was used before, has expired, or is another app's."""


class TokenEndpoint:
    """Ask HubSpot's token endpoint on behalf of one app.

    :param gate: asked before every request.
    """

    def __init__(self, options: OAuthOptions, *, gate: Gate | None = None) -> None:
        oauth_version = options.oauth_version
        if oauth_version not in OAUTH_VERSIONS:
            raise ValueError(f"the OAuth version must be one of {', '.join(OAUTH_VERSIONS)}")
        is_v1 = oauth_version == "v1"
        self._path = "/oauth/v1/token" if is_v1 else Paths(oauth_version).oauth_token()
        paths = Paths("v3" if is_v1 else oauth_version)  # v1 has the token in the path: it would be in logs
        self._whoami, self._introspect = paths.account_info(), paths.oauth_introspect()
        self._client_id = options.client_id
        self._client_secret = options.client_secret
        self._clock = options.connection.clock
        self._transport = Transport(options.base_url, replace(options.connection, pool_size=POOL_SIZE), gate=gate)

    def __repr__(self) -> str:
        return f"TokenEndpoint({self._transport.base_url!r}, client_id={self._client_id!r})"

    def close(self) -> None:
        """Close the idle connections to HubSpot."""
        self._transport.close()

    def exchange(self, code: str, redirect_uri: str, *, code_verifier: str | None = None) -> Tokens:
        """Exchange an authorization code, which works once, for tokens; ``hub_id`` is always there.

        :raises CodeRefused: when HubSpot does not take the code.
        :raises HubSpotRejected: when HubSpot refuses the app itself.
        :raises HubSpotUnavailable: when it may work later.
        """
        doing = "exchanging an authorization code"
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if code_verifier:
            form["code_verifier"] = code_verifier
        tokens = self._ask(doing, form, secrets=(code, code_verifier or ""))
        if isinstance(tokens, HubSpotError):
            raise tokens
        return tokens if tokens.hub_id else replace(tokens, hub_id=self.portal_of(tokens.access_token))

    def refresh(self, refresh_token: str) -> Tokens:
        """Get a new access token.

        Neither error is ever ambiguous: the call that wanted the token was not made.

        :raises TokenRevoked: when HubSpot refuses the token.
        :raises HubSpotUnavailable: when it may work later, also when HubSpot refuses the app.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        tokens = self._ask("refreshing the access token", form, secrets=(refresh_token,))
        if isinstance(tokens, Tokens):
            return tokens
        facts: dict[str, Any] = {
            "status": tokens.status,
            "category": tokens.category,
            "correlation_id": tokens.correlation_id,
        }
        if isinstance(tokens, CodeRefused):
            raise TokenRevoked(f"{tokens}; the portal must be connected again", **facts)
        retry_after = tokens.retry_after if isinstance(tokens, HubSpotUnavailable) else None
        raise HubSpotUnavailable(str(tokens), retry_after=retry_after, **facts)

    def for_the_app(self, scopes: Sequence[str]) -> Tokens:
        """Get an access token for the app itself, of no portal; without a refresh token (docs/hubspot.rst: Journal).

        :raises HubSpotRejected: when HubSpot refuses the app, or a scope.
        :raises HubSpotUnavailable: when it may work later.
        """
        form = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
        tokens = self._ask("getting the app's own token", form, secrets=())
        if isinstance(tokens, HubSpotError):
            raise tokens
        return tokens

    def introspect(self, access_token: str) -> dict[str, Any]:
        """Return what HubSpot tells of an access token of this app: ``hub_id``, ``app_id``, ``scopes``, …

        Source: HubSpot OpenAPI, OAuth, ``…/token/introspect``.

        :raises HubSpotNotFound: for a token that is not the app's, or is not valid any more.
        :raises HubSpotRejected: when HubSpot refuses the app itself.
        :raises HubSpotUnavailable: when it may work later.
        """
        doing = "asking what a token may do"
        form = {"token": access_token, "token_type_hint": "access_token"}
        form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        answer = self._transport.send("POST", self._introspect, doing=doing, form=form)
        if not 200 <= answer.status < 300:
            raise self._transport.error(answer, "GET", doing=doing, secrets=(access_token, self._client_secret))
        found = answer.json() or {}
        if found.get("active") is False:
            raise HubSpotNotFound(f"{doing}: HubSpot says that it is not active", status=answer.status)
        return found

    def _ask(self, doing: str, form: dict[str, str], *, secrets: tuple[str, ...]) -> Tokens | HubSpotError:
        """Post to the token endpoint. Secrets that were sent are removed from HubSpot's error text."""
        now_ms = self._clock.now_ms()
        sent = form | {"client_id": self._client_id, "client_secret": self._client_secret}
        try:
            answer = self._transport.send("POST", self._path, doing=doing, form=sent)
            if 200 <= answer.status < 300:
                of_app = form["grant_type"] == "client_credentials"
                old = "" if of_app else form.get("refresh_token")
                return _tokens(answer.json() or {}, old, now_ms, doing, has_refresh_token=not of_app)
        except HubSpotUnavailable as lost:
            return HubSpotUnavailable(str(lost), status=lost.status, retry_after=lost.retry_after)
        error = self._transport.error(answer, "POST", doing=doing, secrets=(*secrets, self._client_secret))
        if isinstance(error, HubSpotUnavailable):
            return HubSpotUnavailable(
                str(error),
                status=error.status,
                category=error.category,
                correlation_id=error.correlation_id,
                retry_after=error.retry_after,
            )
        facts: dict[str, Any] = {
            "status": error.status,
            "category": error.category,
            "correlation_id": error.correlation_id,
        }
        body = answer.json() or {}
        if body.get("error") in _NOT_THE_TOKEN or str(body.get("status")).startswith("BAD_CLIENT"):
            text = f"{error}; check HUBSPOT_HITL_CLIENT_ID and HUBSPOT_HITL_CLIENT_SECRET"
            return HubSpotRejected(text, **facts)
        # Only a 400 is HubSpot's word on a token; a 404 or a redirect is somebody's on the way.
        return (CodeRefused if error.status == 400 else HubSpotRejected)(str(error), **facts)

    def portal_of(self, access_token: str) -> str:
        """Return the portal of a token, for v1 answers, which do not name it.

        HubSpot OpenAPI, account info, ``PortalInformation``.
        """
        doing = "asking which account has been connected"
        headers = {"Authorization": f"Bearer {access_token}"}
        answer = self._transport.send("GET", self._whoami, doing=doing, headers=headers)
        if not 200 <= answer.status < 300:
            raise self._transport.error(answer, "GET", doing=doing, secrets=(access_token,))
        portal_id = (answer.json() or {}).get("portalId")
        if not _is_id(portal_id):
            raise HubSpotUnavailable(f"{doing}: HubSpot's answer names no account")
        return str(portal_id)


def _tokens(
    body: dict[str, Any], old_refresh_token: str | None, now_ms: int, doing: str, *, has_refresh_token: bool
) -> Tokens:
    access = body.get("access_token")
    kept = body.get("refresh_token") or old_refresh_token
    expires_in = body.get("expires_in")
    if not isinstance(access, str) or not access.isascii() or not access.isprintable() or not access:
        raise HubSpotUnavailable(f"{doing}: HubSpot's answer holds no access token")
    if not isinstance(kept, str) or (has_refresh_token and not kept):
        raise HubSpotUnavailable(f"{doing}: HubSpot's answer holds no refresh token")
    if not isinstance(expires_in, int | float) or not 0 < expires_in < 10**9:
        expires_in = 1800  # HubSpot's documented lifetime
    hub_id = body.get("hub_id")
    scopes = body.get("scopes")
    lifetime_ms = int(expires_in * 1000)
    return Tokens(
        access_token=access,
        refresh_token=kept,
        expires_at_ms=now_ms + lifetime_ms,
        renew_at_ms=now_ms + lifetime_ms - min(RENEW_BEFORE_MS, lifetime_ms // 2),
        hub_id=str(hub_id) if _is_id(hub_id) else None,
        scopes=tuple(scope for scope in scopes if isinstance(scope, str)) if isinstance(scopes, list) else (),
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and str(value).isascii() and str(value).isdecimal()
