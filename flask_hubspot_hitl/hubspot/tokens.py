"""Provide access tokens: static ones, and those that are renewed from a refresh token.

Of ours it may import ``errors`` (and its neighbours here); no Flask, no database.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from ..errors import HubSpotError, HubSpotUnavailable, TokenRevoked, WrongPortal
from .oauth import TokenEndpoint, Tokens
from .options import OAuthOptions
from .transport import Availability, Gate, bounded, deadline

logger = logging.getLogger(__name__)


#: Milliseconds during which a refresh token that HubSpot refused is not tried again.
DEAD_FOR_MS = 60_000
#: Milliseconds after an early renewal in vain in which the old token, while it works, is used without another try.
EARLY_AGAIN_MS = 15_000
#: Seconds that a refresh may take, whatever deadline its caller has: a rotated token that is not read is lost.
REFRESH_SECONDS = 15.0
#: Seconds between two looks whether another process has refreshed.
LOOK_EVERY = 0.05


class TokenProvider(Protocol):
    """Give the bearer token of one portal. Thread-safe."""

    def token(self) -> str:
        """Return a token to use now. Raises ``TokenRevoked`` or ``HubSpotUnavailable``."""
        ...

    def refresh(self, rejected: str) -> str:
        """Return another token, because HubSpot answered 401 to ``rejected``. Raises like :meth:`token`."""
        ...


class StaticToken:
    """Provide a token that never expires, such as a private app's.

    :param on_refused: called when HubSpot refuses the token.
    :param check: called before the token is given away; raises ``WrongPortal`` for another portal's.
    """

    def __init__(
        self,
        token: str,
        *,
        on_refused: Callable[[], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._token = token
        self._on_refused = on_refused
        self._check = check

    def __repr__(self) -> str:
        return "StaticToken(…)"

    def token(self) -> str:
        if self._check is not None:
            self._check()
        return self._token

    def refresh(self, rejected: str) -> str:
        if self._on_refused is not None:
            self._on_refused()
        raise TokenRevoked("HubSpot refuses the access token; check it and put in a new one", status=401)


class NoToken:
    """Provide no token, for calls that are made for no portal."""

    def token(self) -> str:
        raise TokenRevoked("this call needs a portal's access token, or the developer API key")

    def refresh(self, rejected: str) -> str:
        return self.token()


class TokenStore(Protocol):
    """Keep one portal's tokens for all processes, and the lease of the one that refreshes. Thread-safe.

    Every method raises ``HubSpotUnavailable`` when the store can't be used just now.
    """

    def load(self) -> Tokens | None:
        """Return what was stored last, by any process."""
        ...

    def claim(self) -> int | None:
        """Take the lease for refreshing.

        :returns: a number to :meth:`finish` with; None while another process holds it.
        """
        ...

    def finish(self, lease: int, tokens: Tokens | None, *, dead: bool = False) -> None:
        """Release the lease and store tokens.

        :param tokens: None: nothing changes.
        :param dead: whether HubSpot refuses the stored ones.
        """
        ...


class _EarlyGate:
    """Be the portal's gate for the token endpoint, whose silence says nothing of the API while a token works.

    Without one no call can be made anyway, and then it is an outage like any other.

    :param is_early: tells whether a token still works.
    """

    def __init__(self, gate: Gate, is_early: Callable[[], bool]) -> None:
        self._gate = gate
        self._is_early = is_early

    def enter(self, doing: str) -> Any:
        return self._gate.enter(doing)

    def leave(self, permit: Any, shown: Availability, retry_after: float | None) -> None:
        if shown is Availability.DOWN and self._is_early():
            shown, retry_after = Availability.UNKNOWN, None
        self._gate.leave(permit, shown, retry_after)


class RefreshingToken:
    """Provide access tokens from a refresh token: renewed five minutes early, by one thread at a time.

    With a store, by one thread of all processes at a time: the others wait for what it stores. The stored refresh token
    goes before the one given here, which is tried when the stored one is dead.

    :param refresh_token: None when the portal installed the app: then it is in the store.
    :param on_rotated: called with the new refresh token when HubSpot gives another one, before any call uses the new
        access token. When it raises, it is called again at the next :meth:`token`.
    :param portal_id: a token of another portal is refused (``WrongPortal``).
    """

    def __init__(
        self,
        options: OAuthOptions,
        *,
        refresh_token: str | None,
        on_rotated: Callable[[str], None] | None = None,
        gate: Gate | None = None,
        store: TokenStore | None = None,
        portal_id: str | None = None,
    ) -> None:
        self._portal_id = portal_id
        self._endpoint = TokenEndpoint(options, gate=None if gate is None else _EarlyGate(gate, self._is_early))
        self._store = store
        self._given = refresh_token
        self._unstored: Tokens | None = None
        self._clock = options.connection.clock
        self._on_rotated = on_rotated
        self._lock = threading.Lock()
        self._refresh_token = refresh_token
        self._saved = refresh_token
        self._access: str | None = None
        self._renew_at_ms = 0
        self._expires_at_ms = 0
        self._works: Tokens | None = None  # to use without the lock, until they expire
        self._dead_until_ms = 0
        self._attempts = 0
        self._failure: HubSpotUnavailable | None = None

    def __repr__(self) -> str:
        return f"RefreshingToken({self._endpoint!r})"

    def token(self) -> str:
        seen = self._attempts
        works = self._works
        if works and self._lock.locked() and self._clock.now_ms() < works.expires_at_ms:
            return works.access_token  # another thread renews it: that may take long
        with self._lock:
            self._save()
            if self._access and self._clock.now_ms() < self._renew_at_ms:
                return self._access
            try:
                return self._renew(seen)
            except TokenRevoked:
                raise
            except HubSpotUnavailable as error:
                if self._access is None or self._clock.now_ms() >= self._expires_at_ms:
                    raise
                if self._unstored is None:  # else it is at risk: the next call stores it
                    self._renew_at_ms = self._again_at_ms(self._expires_at_ms, error)
                return self._access  # early renewal failed; the old one still works

    def refresh(self, rejected: str) -> str:
        seen = self._attempts
        with self._lock:
            if self._access and self._access != rejected and self._clock.now_ms() < self._expires_at_ms:
                return self._access  # another thread was quicker
            self._access = self._works = None
            return self._renew(seen, rejected)

    def stored_instead(self, used: str) -> str | None:
        """Return the token to use instead of ``used``, which lacks scopes: one that was stored since.

        An installation stores one that may do more, in another process. Only the store is asked.

        :returns: None when there is no other one.
        """
        with self._lock:
            if self._access and self._access != used and self._clock.now_ms() < self._expires_at_ms:
                return self._access  # another thread was quicker
            if self._store is None or self._unstored is not None:
                return None
            try:
                found = self._store.load()
            except HubSpotUnavailable:
                return None
            working = self._working(found, {used})
            return None if working is None else self._adopt(working)

    def _renew(self, seen: int, rejected: str | None = None) -> str:
        """Refresh the token; the caller holds the lock.

        :param seen: finished attempts counted before the lock was waited for.
        """
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
                self._access = self._works = None
                self._dead_until_ms = self._dead_until_ms or self._clock.now_ms() + DEAD_FOR_MS
            raise
        finally:
            self._attempts += 1  # only now: who comes during the attempt shares its outcome
        return self._adopt(tokens)

    def _adopt(self, tokens: Tokens) -> str:
        """Use tokens from now on; the caller holds the lock."""
        self._failure = None
        self._dead_until_ms = 0
        self._access = tokens.access_token
        self._expires_at_ms = tokens.expires_at_ms
        self._renew_at_ms = tokens.renew_at_ms
        self._refresh_token = tokens.refresh_token
        self._save()
        self._works = tokens
        return self._access

    def _fetch(self, old: set[str | None]) -> Tokens:
        """Return tokens with an access token not in ``old``: those that another process stored, else refreshed ones."""
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
            self._works = self._working(found, old) or self._works
            tokens = self._ask([*stored, self._refresh_token, self._given])
        except TokenRevoked:
            dead = True
            raise
        except HubSpotUnavailable as error:
            if (working := self._working(found, old)) is not None:
                # It should be renewed, but works.
                return replace(working, renew_at_ms=self._again_at_ms(working.expires_at_ms, error))
            raise
        finally:
            if tokens is None:
                with contextlib.suppress(HubSpotUnavailable):  # the lease ends by itself
                    self._store.finish(lease, None, dead=dead)
        return self._keep(self._store, lease, tokens)

    def _lease(self, store: TokenStore, old: set[str | None]) -> int | Tokens:
        """Take the refresh lease, or return the tokens that its holder stored; it is waited for by who has no token."""
        ends = time.monotonic() + REFRESH_SECONDS
        while (lease := store.claim()) is None:
            if self._is_early():
                raise HubSpotUnavailable("refreshing the access token: another process is at it")
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

    def _is_early(self) -> bool:
        """Return True when a token works still, though it should be renewed."""
        return self._works is not None and self._clock.now_ms() < self._works.expires_at_ms

    def _again_at_ms(self, expires_at_ms: int, error: HubSpotUnavailable) -> int:
        """Return when to try again to renew a token that works until ``expires_at_ms``."""
        wait_ms = max(EARLY_AGAIN_MS, int((error.retry_after or 0) * 1000))
        return min(self._clock.now_ms() + wait_ms, expires_at_ms)

    def _working(self, tokens: Tokens | None, old: set[str | None]) -> Tokens | None:
        """Return tokens unless they are none, or in ``old``, or have expired."""
        is_working = tokens and tokens.access_token not in old and self._clock.now_ms() < tokens.expires_at_ms
        return tokens if is_working else None

    def _is_good(self, tokens: Tokens, old: set[str | None]) -> bool:
        return tokens.access_token not in old and self._clock.now_ms() < tokens.renew_at_ms

    def _is_back(self, old: set[str | None]) -> bool:
        """Return True when the portal has been connected again since its token died."""
        found = None if self._store is None else self._store.load()
        return found is not None and self._is_good(found, old)

    def _ask(self, refresh_tokens: list[str | None]) -> Tokens:
        """Try each refresh token in turn until HubSpot accepts one."""
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
            refused = WrongPortal(self._portal_id, owner)
            logger.error("No call is made to HubSpot with this token: %s", refused)
            raise refused
        self._portal_id = None

    def _save(self) -> None:
        if self._refresh_token is None or self._refresh_token == self._saved:
            return
        try:
            if self._on_rotated is not None:
                self._on_rotated(self._refresh_token)
        except Exception:
            logger.exception(
                "The new refresh token could not be stored; this process goes on with it and stores it at the next "
                "call. If the process ends before, connect the portal again"
            )
        else:
            self._saved = self._refresh_token
