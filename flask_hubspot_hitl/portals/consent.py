"""Run the OAuth flow: who may begin it, what goes through HubSpot, and when its answer is believed. No pages here.

The state that goes through HubSpot is signed, random, used once, ten minutes old at the most, and bound to the browser
that began by a secret which only that browser's cookie has. HubSpot OpenAPI, OAuth; RFC 6749, 7636 (PKCE) and 9700.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer

from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.oauth import CodeRefused, Tokens, authorize_url
from ..hubspot.scopes import LEGACY_FILES_SCOPE, AppKind, lacking, not_in_use
from ..hubspot.transport import deadline
from ..ledger import Ledger
from . import installations
from .clients import NO_KEY, Services
from .tokens import encrypted

logger = logging.getLogger(__name__)

STATE_MS = 600_000
KNOWN_MS = 3_600_000
"""Milliseconds for which a browser that has installed the app in a portal may connect the portal's inboxes."""
EXCHANGE_SECONDS = 20.0
CONSENT_HOST = "https://app.hubspot.com"
_SCOPE = re.compile(r"[a-z][a-z0-9_-]{0,40}(?:\.[a-z0-9_-]{1,40}){1,5}")
"""What looks like a scope in HubSpot's words."""
_MOST_SCOPES = 10


class ConsentProblem(StrEnum):
    """Name why a flow ends without an installation. Each has words of its own in ``web.oauth``."""

    NOT_ALLOWED = "not allowed"
    LINK_FORGED = "link forged"
    LINK_EXPIRED = "link expired"
    LINK_USED = "link used"
    FORM_FORGED = "form forged"
    STATE_MISSING = "state missing"
    STATE_FORGED = "state forged"
    STATE_EXPIRED = "state expired"
    STATE_USED = "state used"
    OTHER_BROWSER = "other browser"
    DENIED = "denied"
    MORE_THAN_THE_APP = "scopes that the app does not have"
    LESS_THAN_THE_APP = "scopes of the app that were not asked for"
    LEGACY_SCOPE = "a legacy app's scope"
    HUBSPOT_ERROR = "error from HubSpot"
    CODE_MISSING = "code missing"
    CODE_REFUSED = "code refused"
    APP_REFUSED = "app refused"
    WRONG_PORTAL = "wrong portal"
    UNAVAILABLE = "HubSpot unavailable"
    NOT_CONFIGURED = "not configured"


class FlowRefused(Exception):
    """End a flow; nothing was stored. ``detail`` is for the operator, and holds no secret."""

    def __init__(self, why: StrEnum, detail: str = "") -> None:
        super().__init__(detail or why.value)
        self.why = why
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PortalConnected:
    """Say that a portal has been connected, and how what was granted differs from what was asked for."""

    portal_id: str
    missing: tuple[str, ...]
    """Scopes that were asked for and not granted."""
    more: tuple[str, ...]
    """Scopes that were granted and are not used."""
    is_legacy: bool
    """Whether a scope was granted that only legacy apps have, and the app counts as a project app."""


class Consent:
    """Run the OAuth flow of one app."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._ledger: Ledger = services.ledger

    # What proves that something is ours -------------------------------------------------------------------

    def _signer(self, purpose: str) -> URLSafeSerializer:
        try:
            return self._services.signer(purpose)
        except NotConfigured as error:
            raise FlowRefused(ConsentProblem.NOT_CONFIGURED, str(error)) from None

    def _read(self, purpose: str, signed: str, otherwise: ConsentProblem) -> dict[str, Any]:
        try:
            found = self._signer(purpose).loads(signed)
        except BadSignature:
            raise FlowRefused(otherwise) from None
        if not isinstance(found, dict):
            raise FlowRefused(otherwise)
        return found

    def check(self) -> None:
        """Check that a flow could be brought to its end.

        :raises FlowRefused: when a setting is missing.
        """
        self._signer("state")
        try:
            self._services.cipher()
            if self._settings.client_id is None:
                raise NotConfigured("HUBSPOT_HITL_CLIENT_ID is missing")
        except NotConfigured as error:
            raise FlowRefused(ConsentProblem.NOT_CONFIGURED, str(error)) from None

    # A form is sent by the browser that was shown it ------------------------------------------------------

    def form_token(self, browser: str) -> str:
        """Return what a form of ours carries, for one browser."""
        return self._signer("form").dumps({"browser": _digest(browser)})

    def check_form(self, token: str, browser: str | None) -> None:
        """Check that a form comes from the page that this browser was shown.

        :raises FlowRefused: when it does not.
        """
        found = self._read("form", token, ConsentProblem.FORM_FORGED)
        if browser is None or not _same(found.get("browser"), _digest(browser)):
            raise FlowRefused(ConsentProblem.FORM_FORGED)

    # A link that lets somebody install once ---------------------------------------------------------------

    def make_link(self, portal_id: str | None, *, seconds: float) -> str:
        """Return an address of the install page that works once.

        :param portal_id: the only portal that it works for; None: for any.
        :param seconds: how long it works.
        :raises FlowRefused: when a setting is missing.
        :raises LedgerUnavailable: when it can't be stored.
        """
        self.check()
        nonce, now = secrets.token_urlsafe(32), self._ledger.now_ms()
        until = now + int(seconds * 1000)
        with self._ledger.write() as tx:
            tx.once.issue(_key("link", nonce), {}, expires_at=until, now=now)
        link = self._signer("link").dumps({"nonce": nonce, "portal": portal_id, "until": until})
        return f"{self._settings.oauth_url('install')}?link={link}"

    def check_link(self, link: str, *, use: bool = False) -> str | None:
        """Return the portal that a link is bound to.

        :param use: whether the link is used up by that.
        :raises FlowRefused: when it is not ours, too old, or used.
        """
        found = self._read("link", link, ConsentProblem.LINK_FORGED)
        now, key = self._ledger.now_ms(), _key("link", str(found.get("nonce")))
        if now >= int(found.get("until", 0)):
            raise FlowRefused(ConsentProblem.LINK_EXPIRED)
        if use:
            with self._ledger.write() as tx:
                is_good = tx.once.consume(key, now=now) is not None
        else:
            with self._ledger.read() as tx:
                is_good = tx.once.peek(key, now=now)
        if not is_good:
            raise FlowRefused(ConsentProblem.LINK_USED)
        portal: str | None = found.get("portal")
        return portal

    # To HubSpot and back ----------------------------------------------------------------------------------

    def begin(self, browser: str, portal_id: str | None) -> str:
        """Return the address of HubSpot's consent page, for this browser.

        :param portal_id: the only portal that may be chosen there; None: the one configured, or any.
        :raises FlowRefused: when a setting is missing, or another portal is configured.
        """
        self.check()
        portal = self._settings.portal_id or portal_id
        if portal_id not in (None, portal):
            raise FlowRefused(ConsentProblem.WRONG_PORTAL)
        nonce, verifier, now = secrets.token_urlsafe(32), secrets.token_urlsafe(48), self._ledger.now_ms()
        with self._ledger.write() as tx:
            tx.once.issue(_key("state", nonce), {"verifier": verifier}, expires_at=now + STATE_MS, now=now)
        state = {"nonce": nonce, "browser": _digest(browser), "portal": portal, "at": now}
        settings = self._settings
        return authorize_url(
            settings.api_base_url if settings.is_stand_in else CONSENT_HOST,
            client_id=settings.client_id or "",
            redirect_uri=settings.oauth_url("callback"),
            scopes=self._services.wanted_scopes(),
            state=self._signer("state").dumps(state),
            code_verifier=verifier,
            portal_id=portal,
        )

    def finish(
        self,
        *,
        state: str | None,
        code: str | None,
        error: str | None,
        browser: str | None,
        description: str | None = None,
    ) -> PortalConnected:
        """Believe HubSpot's answer if it is one to a question of ours, and store the portal's tokens.

        The portal is the one that HubSpot's answer to the code names; nothing that came through the browser counts.

        :param description: HubSpot's words for the error.
        :raises FlowRefused: in every other case; nothing was stored.
        :raises LedgerUnavailable: when the tokens can't be stored.
        """
        if not state:
            raise FlowRefused(ConsentProblem.STATE_MISSING)
        found = self._read("state", state, ConsentProblem.STATE_FORGED)
        if browser is None or not _same(found.get("browser"), _digest(browser)):
            raise FlowRefused(ConsentProblem.OTHER_BROWSER)
        now = self._ledger.now_ms()
        if now >= int(found.get("at", 0)) + STATE_MS:
            raise FlowRefused(ConsentProblem.STATE_EXPIRED)
        with self._ledger.write() as tx:
            kept = tx.once.consume(_key("state", str(found.get("nonce"))), now=now)
        if kept is None:
            raise FlowRefused(ConsentProblem.STATE_USED)
        if error:
            raise self._refusal(error, description or "")
        if not code:
            raise FlowRefused(ConsentProblem.CODE_MISSING)
        self.check()
        tokens = self._exchange(code, kept["verifier"])
        portal_id = str(tokens.hub_id)
        for wanted in (found.get("portal"), self._settings.portal_id):
            if wanted not in (None, portal_id):
                raise FlowRefused(ConsentProblem.WRONG_PORTAL, portal_id)
        return self._store(portal_id, tokens, browser)

    def _refusal(self, error: str, description: str) -> FlowRefused:
        """Tell which way the scopes differ when HubSpot names one: those that we asked for, the app does not have."""
        if error == "access_denied":
            return FlowRefused(ConsentProblem.DENIED, _word(error))
        asked, words = self._services.wanted_scopes(), re.findall(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", description.lower())
        named = [one for one in dict.fromkeys(words) if one in asked or _SCOPE.fullmatch(one)][:_MOST_SCOPES]
        detail = f"{_word(error)}: {', '.join(named)}"
        if self._services.app_kind() is AppKind.PROJECT and LEGACY_FILES_SCOPE in named:
            return FlowRefused(ConsentProblem.LEGACY_SCOPE, detail)
        if named and "scope" in f"{error} {description}".lower():
            is_more = any(one in asked for one in named)
            return FlowRefused(
                ConsentProblem.MORE_THAN_THE_APP if is_more else ConsentProblem.LESS_THAN_THE_APP, detail
            )
        return FlowRefused(ConsentProblem.HUBSPOT_ERROR, _word(error))

    def _exchange(self, code: str, verifier: str) -> Tokens:
        endpoint = self._services.token_endpoint()
        try:
            with deadline(EXCHANGE_SECONDS):
                return endpoint.exchange(code, self._settings.oauth_url("callback"), code_verifier=verifier)
        except CodeRefused as error:
            raise FlowRefused(ConsentProblem.CODE_REFUSED, str(error)) from None
        except HubSpotRejected as error:
            raise FlowRefused(ConsentProblem.APP_REFUSED, str(error)) from None
        except HubSpotUnavailable as error:
            raise FlowRefused(ConsentProblem.UNAVAILABLE, str(error)) from None
        finally:
            endpoint.close()

    def _store(self, portal_id: str, tokens: Tokens, browser: str) -> PortalConnected:
        cipher = self._services.cipher()
        if cipher is None:
            raise FlowRefused(ConsentProblem.NOT_CONFIGURED, NO_KEY)
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            installations.installed(
                tx,
                portal_id,
                encrypted(cipher, portal_id, tokens),
                scopes=tokens.scopes or None,
                now=now,
            )
            known = _key("browser", f"{browser}:{portal_id}")
            tx.once.consume(known, now=now)  # from an earlier time
            tx.once.issue(known, {}, expires_at=now + KNOWN_MS, now=now)
        logger.info("Portal %s has been connected", portal_id)
        asked, kind = self._services.wanted_scopes(), self._services.app_kind()
        granted = tokens.scopes or asked
        missing = lacking(asked, granted)
        if missing:
            logger.warning(
                "Portal %s did not grant %s: calls that need it are refused until the app is installed again with it",
                portal_id,
                ", ".join(missing),
            )
        return PortalConnected(
            portal_id,
            missing=missing,
            more=not_in_use(granted, asked),
            is_legacy=kind is AppKind.PROJECT and LEGACY_FILES_SCOPE in granted,
        )

    def has_installed(self, browser: str | None, portal_id: str) -> bool:
        """Return True for a browser in which somebody has installed the app in this portal within an hour."""
        if browser is None:
            return False
        with self._ledger.read() as tx:
            return tx.once.peek(_key("browser", f"{browser}:{portal_id}"), now=self._ledger.now_ms())


def new_browser() -> str:
    """Return a new secret for a browser's cookie."""
    return secrets.token_urlsafe(32)


def is_browser(value: str | None) -> bool:
    """Return True for what :func:`new_browser` gives."""
    return value is not None and re.fullmatch(r"[A-Za-z0-9_-]{43}", value) is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _key(kind: str, nonce: str) -> str:
    return f"{kind}:{_digest(nonce)}"


def _same(one: object, other: str) -> bool:
    return isinstance(one, str) and hmac.compare_digest(one.encode(), other.encode())


def _word(text: str) -> str:
    """Return an error code, as far as it has the form of one."""
    return re.sub(r"[^a-z_]", "", text.lower())[:40]
