"""Access tokens: where a call gets its bearer from, HubSpot's consent page and its token endpoint.

Of ours it may import ``errors`` and ``clock`` (and its neighbours here); no Flask, no database.
Source: HubSpot OpenAPI, OAuth v1, v3, 2026-03 and 2026-09, ``POST …/token``; PKCE is RFC 7636.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from ..clock import Clock
from ..errors import HubSpotError, HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, TokenRevoked, WrongPortal
from .paths import OAUTH_VERSIONS, Paths, segment
from .transport import Gate, Transport, bounded, deadline

logger = logging.getLogger(__name__)

#: A token is renewed this long before it expires, in milliseconds.
RENEW_BEFORE_MS = 300_000
#: A refresh token that HubSpot refused is not tried again for this long, in milliseconds.
DEAD_FOR_MS = 60_000
#: A refresh may take this long, whatever deadline its caller has: a rotated token that is not read is lost. Seconds.
REFRESH_SECONDS = 15.0
#: How often it is looked whether another process has refreshed, in seconds.
LOOK_EVERY = 0.05

#: What every installation needs: the conversations of our channel, and the contact to attach them to.
SCOPES = (
    "oauth",
    "conversations.custom_channels.read",
    "conversations.custom_channels.write",
    "conversations.read",
    "conversations.write",
    "conversations.visitor_identification.tokens.create",
    "crm.objects.contacts.read",
)
FILES_SCOPE = "files"
"""For users' files."""
CREATE_CONTACTS_SCOPE = "crm.objects.contacts.write"
_NOT_THE_TOKEN = frozenset({"invalid_client", "unauthorized_client", "invalid_request", "unsupported_grant_type"})
"""OAuth errors (RFC 6749, 5.2) that say nothing about the token."""


class TokenProvider(Protocol):
    """Gives the bearer token of one portal. Thread-safe."""

    def token(self) -> str:
        """A token to use now. Raises ``TokenRevoked`` or ``HubSpotUnavailable``."""
        ...

    def refresh(self, rejected: str) -> str:
        """Another token, because HubSpot answered 401 to ``rejected``. Raises like :meth:`token`."""
        ...


class StaticToken:
    """A token that never expires, such as a private app's. ``on_refused`` is called when HubSpot refuses it."""

    def __init__(self, token: str, *, on_refused: Callable[[], None] | None = None) -> None:
        self._token = token
        self._on_refused = on_refused

    def __repr__(self) -> str:
        return "StaticToken(…)"

    def token(self) -> str:
        return self._token

    def refresh(self, rejected: str) -> str:
        if self._on_refused is not None:
            self._on_refused()
        raise TokenRevoked("HubSpot refuses the access token; check it and put in a new one", status=401)


class NoToken:
    """For calls that no portal makes."""

    def token(self) -> str:
        raise TokenRevoked("this call needs a portal's access token, or the developer API key")

    def refresh(self, rejected: str) -> str:
        return self.token()


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave. ``refresh_token`` is the one to keep, new or not."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at_ms: int
    renew_at_ms: int
    hub_id: str | None = None
    scopes: tuple[str, ...] = ()


class TokenStore(Protocol):
    """One portal's tokens, shared by all processes, and the lease of the one that refreshes. Thread-safe.

    Every method raises ``HubSpotUnavailable`` when the store can't be used just now.
    """

    def load(self) -> Tokens | None:
        """What was stored last, by any process."""
        ...

    def claim(self) -> int | None:
        """The lease, as a number to :meth:`finish` with; None while another process has it."""
        ...

    def finish(self, lease: int, tokens: Tokens | None, *, dead: bool = False) -> None:
        """Give the lease back and store ``tokens``. With None nothing changes; ``dead``: HubSpot refuses them."""
        ...


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
    """The address of HubSpot's consent page; with ``portal_id`` that account is chosen already."""
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
    """HubSpot does not take the authorization code: it was used before, has expired, or is another app's."""


class TokenEndpoint:
    """HubSpot's token endpoint, asked on behalf of one app. ``oauth_version`` is one of ``OAUTH_VERSIONS``."""

    def __init__(
        self,
        *,
        base_url: str,
        oauth_version: str,
        client_id: str,
        client_secret: str,
        clock: Clock,
        timeout: tuple[float, float] = (3.05, 10.0),
        proxy: str | None = None,
        private_hosts: Collection[str] = (),
        gate: Gate | None = None,
    ) -> None:
        if oauth_version not in OAUTH_VERSIONS:
            raise ValueError(f"the OAuth version must be one of {', '.join(OAUTH_VERSIONS)}")
        is_v1 = oauth_version == "v1"
        self._path = "/oauth/v1/token" if is_v1 else Paths(oauth_version).oauth_token()
        paths = Paths("v3" if is_v1 else oauth_version)  # v1 has the token in the path: it would be in logs
        self._whoami, self._introspect = paths.account_info(), paths.oauth_introspect()
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock
        self._transport = Transport(
            base_url,
            clock=clock,
            timeout=timeout,
            proxy=proxy,
            private_hosts=private_hosts,
            pool_size=4,
            gate=gate,
        )

    def __repr__(self) -> str:
        return f"TokenEndpoint({self._transport.base_url!r}, client_id={self._client_id!r})"

    def close(self) -> None:
        """Close the idle connections."""
        self._transport.close()

    def exchange(self, code: str, redirect_uri: str, *, code_verifier: str | None = None) -> Tokens:
        """The tokens for an authorization code, which works once; ``hub_id`` is always there.

        Raises ``CodeRefused``, ``HubSpotRejected`` when HubSpot refuses the app itself, and ``HubSpotUnavailable``.
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
        """A new access token.

        Raises ``TokenRevoked`` when HubSpot refuses the token and ``HubSpotUnavailable`` when it may work later, also
        when it refuses the app. Neither is ever ambiguous: the call that wanted the token was not made.
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

    def introspect(self, access_token: str) -> dict[str, Any]:
        """What HubSpot tells of an access token of this app: ``hub_id``, ``app_id``, ``scopes``, …

        Raises ``HubSpotNotFound`` for a token that is not the app's, or not good any more; ``HubSpotRejected`` when
        HubSpot refuses the app itself; ``HubSpotUnavailable``. Source: HubSpot OpenAPI, OAuth, ``…/token/introspect``.
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
        """The tokens, or why there are none; what was sent is blotted out of HubSpot's words."""
        now_ms = self._clock.now_ms()
        sent = form | {"client_id": self._client_id, "client_secret": self._client_secret}
        try:
            answer = self._transport.send("POST", self._path, doing=doing, form=sent)
            if 200 <= answer.status < 300:
                return _tokens(answer.json() or {}, form.get("refresh_token"), now_ms, doing)
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
        """Whose token it is, for answers that don't tell (v1). HubSpot OpenAPI, account info, ``PortalInformation``."""
        doing = "asking which account has been connected"
        headers = {"Authorization": f"Bearer {access_token}"}
        answer = self._transport.send("GET", self._whoami, doing=doing, headers=headers)
        if not 200 <= answer.status < 300:
            raise self._transport.error(answer, "GET", doing=doing, secrets=(access_token,))
        portal_id = (answer.json() or {}).get("portalId")
        if not _is_id(portal_id):
            raise HubSpotUnavailable(f"{doing}: HubSpot's answer names no account")
        return str(portal_id)


class RefreshingToken:
    """Access tokens from a refresh token: renewed five minutes early, by one thread at a time.

    With a ``store``, by one thread of all processes at a time: the others wait for what it stores. The stored
    refresh token goes before the one given here, which is tried when the stored one is dead. None is given here
    when the portal installed the app: then it is in the store.

    With a ``portal_id`` a token of another portal is refused (``WrongPortal``).

    ``on_rotated`` is called with the new refresh token when HubSpot gives another one, before any call uses
    the new access token. When it raises, it is called again at the next :meth:`token`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        oauth_version: str,
        client_id: str,
        client_secret: str,
        refresh_token: str | None,
        clock: Clock,
        on_rotated: Callable[[str], None] | None = None,
        timeout: tuple[float, float] = (3.05, 10.0),
        proxy: str | None = None,
        private_hosts: Collection[str] = (),
        gate: Gate | None = None,
        store: TokenStore | None = None,
        portal_id: str | None = None,
    ) -> None:
        self._portal_id = portal_id
        self._endpoint = TokenEndpoint(
            base_url=base_url,
            oauth_version=oauth_version,
            client_id=client_id,
            client_secret=client_secret,
            clock=clock,
            timeout=timeout,
            proxy=proxy,
            private_hosts=private_hosts,
            gate=gate,
        )
        self._store = store
        self._given = refresh_token
        self._unstored: Tokens | None = None
        self._clock = clock
        self._on_rotated = on_rotated
        self._lock = threading.Lock()
        self._refresh_token = refresh_token
        self._saved = refresh_token
        self._access: str | None = None
        self._renew_at_ms = 0
        self._expires_at_ms = 0
        self._dead_until_ms = 0
        self._attempts = 0
        self._failure: HubSpotUnavailable | None = None

    def __repr__(self) -> str:
        return f"RefreshingToken({self._endpoint!r})"

    def token(self) -> str:
        seen = self._attempts
        with self._lock:
            self._save()
            now_ms = self._clock.now_ms()
            if self._access and now_ms < self._renew_at_ms:
                return self._access
            try:
                return self._renew(seen)
            except TokenRevoked:
                raise
            except HubSpotUnavailable:
                if self._access and now_ms < self._expires_at_ms:
                    return self._access  # early renewal failed; the old one still works
                raise

    def refresh(self, rejected: str) -> str:
        seen = self._attempts
        with self._lock:
            if self._access and self._access != rejected and self._clock.now_ms() < self._expires_at_ms:
                return self._access  # another thread was quicker
            self._access = None
            return self._renew(seen, rejected)

    def _renew(self, seen: int, rejected: str | None = None) -> str:
        """Ask for a token, lock held; ``seen`` is how many attempts had ended before waiting for it."""
        if self._failure is not None and self._attempts != seen:
            raise self._failure  # somebody asked in the meantime, in vain: don't queue up to ask again
        old = {rejected, self._access}
        try:
            if self._clock.now_ms() < self._dead_until_ms and not self._is_back(old):
                raise TokenRevoked("HubSpot refused the refresh token; the portal must be connected again")
            self._dead_until_ms = 0
            tokens = self._fetch(old)
        except HubSpotUnavailable as error:
            self._failure = error
            if isinstance(error, TokenRevoked):
                self._access = None
                self._dead_until_ms = self._dead_until_ms or self._clock.now_ms() + DEAD_FOR_MS
            raise
        finally:
            self._attempts += 1  # only now: who comes during the attempt shares its outcome
        self._failure = None
        self._access = tokens.access_token
        self._expires_at_ms = tokens.expires_at_ms
        self._renew_at_ms = tokens.renew_at_ms
        self._refresh_token = tokens.refresh_token
        self._save()
        return self._access

    def _fetch(self, old: set[str | None]) -> Tokens:
        """Tokens whose access token is none of ``old``: stored by another process, or asked for now."""
        if self._store is None:
            return self._ask([self._refresh_token])
        found = None if self._unstored else self._store.load()
        if found is not None and self._is_good(found, old):
            return found
        lease = self._lease(self._store, old)
        if isinstance(lease, Tokens):
            self._unstored = None
            return lease
        if self._unstored is not None and self._is_good(self._unstored, old):
            return self._keep(self._store, lease, self._unstored)
        tokens: Tokens | None = None
        dead = False
        try:
            found = self._store.load()
            if found is not None and self._is_good(found, old):
                return found
            stored = [] if found is None else [found.refresh_token]
            tokens = self._ask([*stored, self._refresh_token, self._given])
        except TokenRevoked:
            dead = True
            raise
        except HubSpotUnavailable:
            if found is not None and found.access_token not in old and self._clock.now_ms() < found.expires_at_ms:
                return found  # it should be renewed, but works
            raise
        finally:
            if tokens is None:
                with contextlib.suppress(HubSpotUnavailable):  # the lease ends by itself
                    self._store.finish(lease, None, dead=dead)
        return self._keep(self._store, lease, tokens)

    def _lease(self, store: TokenStore, old: set[str | None]) -> int | Tokens:
        """The lease, or what the process that had it has stored."""
        ends = time.monotonic() + REFRESH_SECONDS
        while (lease := store.claim()) is None:
            time.sleep(LOOK_EVERY)
            found = store.load()
            if found is not None and self._is_good(found, old):
                return found
            if time.monotonic() > ends:
                raise HubSpotUnavailable("refreshing the access token: another process takes too long")
        return lease

    def _keep(self, store: TokenStore, lease: int, tokens: Tokens) -> Tokens:
        """Store tokens before they are used: a rotated refresh token must not be lost with this process."""
        self._refresh_token = tokens.refresh_token
        self._unstored = tokens
        store.finish(lease, tokens)
        self._unstored = None
        return tokens

    def _is_good(self, tokens: Tokens, old: set[str | None]) -> bool:
        return tokens.access_token not in old and self._clock.now_ms() < tokens.renew_at_ms

    def _is_back(self, old: set[str | None]) -> bool:
        """True when the portal has been connected again since its token died."""
        found = None if self._store is None else self._store.load()
        return found is not None and self._is_good(found, old)

    def _ask(self, refresh_tokens: list[str | None]) -> Tokens:
        """Ask with the first of these, and with the next one when HubSpot refuses it."""
        candidates = list(dict.fromkeys(one for one in refresh_tokens if one is not None))
        for position, refresh_token in enumerate(candidates, 1):
            try:
                return contextvars.Context().run(self._ask_in_time, refresh_token)
            except TokenRevoked:
                if position == len(candidates):
                    raise
        raise HubSpotUnavailable("refreshing the access token: there is no refresh token; connect the portal")

    def _ask_in_time(self, refresh_token: str) -> Tokens:
        with deadline(REFRESH_SECONDS):
            tokens = bounded(
                lambda: self._endpoint.refresh(refresh_token), doing="refreshing the access token", safe=True
            )
            self._check_portal(tokens)
            return tokens

    def _check_portal(self, tokens: Tokens) -> None:
        """Refuse another portal's token; when HubSpot does not say whose it is, the next renewal asks again."""
        if self._portal_id is None:
            return
        owner = tokens.hub_id
        if owner is None:
            try:
                owner = self._endpoint.portal_of(tokens.access_token)
            except HubSpotError:
                return
        if owner != self._portal_id:
            raise WrongPortal(self._portal_id, owner)
        self._portal_id = None

    def _save(self) -> None:
        if self._refresh_token is None or self._refresh_token == self._saved:
            return
        try:
            if self._on_rotated is not None:
                self._on_rotated(self._refresh_token)
        except Exception:
            logger.exception("The new refresh token could not be stored; it will be tried again")
        else:
            self._saved = self._refresh_token


def _tokens(body: dict[str, Any], old_refresh_token: str | None, now_ms: int, doing: str) -> Tokens:
    access = body.get("access_token")
    kept = body.get("refresh_token") or old_refresh_token
    expires_in = body.get("expires_in")
    if not isinstance(access, str) or not access.isascii() or not access.isprintable() or not access:
        raise HubSpotUnavailable(f"{doing}: HubSpot's answer holds no access token")
    if not isinstance(kept, str) or not kept:
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
