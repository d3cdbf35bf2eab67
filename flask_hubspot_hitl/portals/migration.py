"""Move an app to the newest version of HubSpot's API: first each portal's token is tried there, then the store is told.

A refresh token works for every version (docs/hubspot.rst: Tokens), which nobody has promised: so it is tried. What
HubSpot gives for it is stored at once, because it may have replaced the old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config import PREFIX
from ..errors import HubSpotError, HubSpotUnavailable, NotConfigured, TokenRevoked, WrongPortal
from ..hubspot.oauth import TokenEndpoint, Tokens
from ..hubspot.paths import NEWEST
from ..hubspot.tokens import LOOK_EVERY, REFRESH_SECONDS
from ..hubspot.transport import deadline
from ..ledger import InstallationState
from . import api_version
from .clients import NO_KEY, Services
from .tokens import DatabaseTokens


@dataclass(frozen=True, slots=True)
class Tried:
    """Tell how one portal fared at the newest version."""

    portal_id: str
    is_good: bool
    words: str


@dataclass(frozen=True, slots=True)
class Migration:
    """Tell what came of it. ``version`` is the one that is used from now on."""

    tried: tuple[Tried, ...]
    version: str
    is_done: bool
    """Whether every token was taken and no setting says otherwise."""
    settings: tuple[str, ...]
    """The settings that say otherwise, and so have to be taken out."""


def migrate(services: Services, *, on_tried: Callable[[Tried], None] = lambda tried: None) -> Migration:
    """Try each portal's token at the newest version; when none is refused, use that version from now on.

    :param on_tried: told of each portal at once.
    :raises LedgerUnavailable: when the database can't be used.
    """
    tried = []
    for portal_id in _portal_ids(services):
        tried.append(_try(services, portal_id))
        on_tried(tried[-1])
    settings = services.settings
    names = ("api_version", "oauth_version")
    in_the_way = tuple(PREFIX + one.upper() for one in names if getattr(settings, one) not in (None, NEWEST))
    is_good = all(one.is_good for one in tried)
    with services.ledger.write() as tx:
        if is_good:
            api_version.move(tx, NEWEST)
        now = api_version.api_version(tx, settings)
    return Migration(tuple(tried), now, is_good and not in_the_way, in_the_way if is_good else ())


def _portal_ids(services: Services) -> Sequence[str]:
    settings = services.settings
    if settings.portal_id is not None:
        return [settings.portal_id] if settings.refresh_token or settings.access_token else _installed(services)
    return _installed(services)


def _installed(services: Services) -> list[str]:
    with services.ledger.read() as tx:
        found = [one.portal_id for one in tx.installations.all()]
    only = services.settings.portal_id
    return [one for one in found if only in (None, one)]


def _try(services: Services, portal_id: str) -> Tried:
    settings = services.settings
    is_configured = portal_id == settings.portal_id
    with services.ledger.read() as tx:
        stored = tx.installations.get(portal_id)
    if stored is not None and stored.state is InstallationState.REVOKED and not (is_configured and _token(services)):
        return Tried(portal_id, True, "left out: HubSpot refuses its token already, and it has to be connected again")
    try:
        endpoint = services.token_endpoint(NEWEST)
    except NotConfigured as error:
        if not (is_configured and settings.access_token):
            return Tried(portal_id, False, str(error))
        return Tried(portal_id, True, "left out: its token is configured and never renewed")
    try:
        with deadline(REFRESH_SECONDS):
            if is_configured and settings.access_token:
                owner = endpoint.portal_of(settings.access_token)
            else:
                owner = _renew(services, endpoint, portal_id)
        if owner != portal_id:
            raise WrongPortal(portal_id, owner)
    except (HubSpotError, NotConfigured) as error:
        return Tried(portal_id, False, str(error))
    finally:
        endpoint.close()
    return Tried(portal_id, True, f"{NEWEST} takes its token")


def _token(services: Services) -> str | None:
    return services.settings.access_token or services.settings.refresh_token


def _renew(services: Services, endpoint: TokenEndpoint, portal_id: str) -> str:
    """Renew a portal's token, store what came, and return the portal that HubSpot says it is of."""
    cipher = services.cipher()
    if cipher is None:
        raise NotConfigured(NO_KEY)
    settings = services.settings
    configured = settings.refresh_token if portal_id == settings.portal_id else None
    store = DatabaseTokens(services.ledger, portal_id, cipher, configured)
    lease = _lease(store)
    tokens: Tokens | None = None
    try:
        found = store.load()
        tokens = _ask(endpoint, [None if found is None else found.refresh_token, configured])
        owner = tokens.hub_id or endpoint.portal_of(tokens.access_token)
        if owner != portal_id:
            tokens = None
    finally:
        store.finish(lease, tokens)
    return owner if tokens is None else endpoint.portal_of(tokens.access_token)


def _ask(endpoint: TokenEndpoint, refresh_tokens: Sequence[str | None]) -> Tokens:
    """Try the stored token, then the configured one."""
    known = list(dict.fromkeys(one for one in refresh_tokens if one is not None))
    if not known:
        raise NotConfigured("there is no token for it any more: connect it again")
    *firsts, last = known
    for one in firsts:
        try:
            return endpoint.refresh(one)
        except TokenRevoked:
            continue
    return endpoint.refresh(last)


def _lease(store: DatabaseTokens) -> int:
    """Take the lease for refreshing, so that no server renews the same token meanwhile."""
    ends = time.monotonic() + REFRESH_SECONDS
    while (lease := store.claim()) is None:
        if time.monotonic() > ends:
            raise HubSpotUnavailable("another process is renewing the token and takes too long: try again")
        time.sleep(LOOK_EVERY)
    return lease
