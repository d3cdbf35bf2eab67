"""Run HubSpot's own "connect a channel" flow: what may be connected, and where the browser goes then. No pages here.

An admin picks our channel in an inbox's settings, and HubSpot opens our page with a staging token in its address. That
address is not signed, so nothing in it is believed: the token counts because HubSpot takes it together with the
portal's own access token. HubSpot OpenAPI, custom channels, ``channel-account-staging-tokens``; docs/hubspot.rst
(Connecting inside HubSpot).
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from typing import Any

from ..errors import (
    HubSpotConflict,
    HubSpotError,
    HubSpotNotFound,
    HubSpotRejected,
    HubSpotUnavailable,
    LedgerUnavailable,
    NotConfigured,
    TokenRevoked,
)
from ..hubspot.client import HubSpotClient
from ..hubspot.setup.wanted import NAME, account_identifier, mark_of_account
from ..hubspot.transport import deadline
from . import accounts, installations, routing
from .clients import Services
from .consent import FlowRefused

logger = logging.getLogger(__name__)

FINISH_SECONDS = 20.0
"""Seconds for all calls that connect an inbox: the admin waits for the page."""

_TOKEN = re.compile(r"[\w-]{1,200}", re.ASCII)
_ID = re.compile(r"[0-9]{1,19}")
_URL = re.compile(r"https://([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?:[/?#][!-\[\]-~]*)?", re.IGNORECASE | re.ASCII)
"""Plain printable ASCII, no port, no user, no backslash: what every reader of URLs reads alike."""
_URL_LENGTH = 2_000


class ConnectProblem(StrEnum):
    """Name why an inbox was not connected. Each has words of its own in ``web.connect``."""

    NOT_ALLOWED = "not allowed"
    INCOMPLETE = "incomplete"
    NO_CHANNEL = "no channel"
    OTHER_CHANNEL = "other channel"
    NOT_INSTALLED = "not installed"
    REVOKED = "revoked"
    EXPIRED = "token unknown"
    OTHER_INBOX = "other inbox"
    REFUSED = "refused"
    UNAVAILABLE = "HubSpot unavailable"


@dataclass(frozen=True, slots=True)
class Wish:
    """Hold what HubSpot's popup asks for."""

    account_token: str = field(repr=False)
    channel_id: str
    inbox_id: str
    portal_id: str
    redirect_url: str

    def query(self) -> dict[str, str]:
        """Return the query by HubSpot's own parameter names."""
        return dict(zip(_QUERY, astuple(self), strict=True))


_QUERY = ("accountToken", "channelId", "inboxId", "portalId", "redirectUrl")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxConnected:
    """Say that our channel is, or soon will be, in the inbox."""

    was_there: bool
    """It had been connected before; no other account is made."""
    back_to: str | None
    """Where HubSpot waits for the browser; None when the address given is not one of HubSpot's."""


def read(query: Mapping[str, str]) -> Wish:
    """Read the query of HubSpot's popup, and check its form.

    :raises FlowRefused: when something is missing or is not what HubSpot sends.
    """
    token, channel_id, inbox_id, portal_id, url = (query.get(name, "") for name in _QUERY)
    if not _TOKEN.fullmatch(token) or not all(_ID.fullmatch(one) for one in (channel_id, inbox_id, portal_id)):
        raise FlowRefused(ConnectProblem.INCOMPLETE)
    return Wish(token, channel_id, inbox_id, portal_id, url if len(url) <= _URL_LENGTH else "")


class ConnectFlow:
    """Run the flow of one app."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger

    def check(self, wish: Wish) -> None:
        """Check that it is about our channel, in a portal that has installed the app.

        :raises FlowRefused: when it is not.
        :raises LedgerUnavailable: when that can't be looked up.
        """
        settings = self._services.settings
        with self._ledger.read() as tx:
            channel_id = routing.channel_of(tx, settings)
            has_token = installations.has_token(tx, settings, wish.portal_id)
        if channel_id is None:
            raise FlowRefused(ConnectProblem.NO_CHANNEL, "there is no channel yet: run 'flask hubspot-hitl setup'")
        if wish.channel_id != channel_id:
            raise FlowRefused(ConnectProblem.OTHER_CHANNEL)
        if not has_token:
            raise FlowRefused(ConnectProblem.NOT_INSTALLED)

    def finish(self, wish: Wish) -> InboxConnected:
        """Tell HubSpot which account the inbox gets.

        :raises FlowRefused: when HubSpot does not take it; the text is for the operator.
        :raises LedgerUnavailable: when the channel or the portal can't be looked up.
        """
        self.check(wish)
        try:
            with deadline(FINISH_SECONDS):
                connected = self._finish(self._services.client(wish.portal_id), wish)
        except NotConfigured as error:
            raise FlowRefused(ConnectProblem.NOT_INSTALLED, str(error)) from None
        except TokenRevoked as error:
            raise FlowRefused(ConnectProblem.REVOKED, str(error)) from None
        except HubSpotUnavailable as error:
            raise FlowRefused(ConnectProblem.UNAVAILABLE, str(error)) from None
        except HubSpotNotFound as error:
            raise FlowRefused(ConnectProblem.EXPIRED, str(error)) from None
        except HubSpotRejected as error:
            raise FlowRefused(ConnectProblem.REFUSED, str(error)) from None
        try:
            # HubSpot tells of the account by a webhook as well; that may be late, or never reach us.
            with self._ledger.write() as tx:
                accounts.look_at(tx, wish.portal_id, now=self._ledger.now_ms())
        except LedgerUnavailable as error:
            logger.warning(
                "Inbox %s of portal %s is connected at HubSpot, but that could not be noted (%s): run 'flask "
                "hubspot-hitl setup' if its handoffs are refused",
                wish.inbox_id,
                wish.portal_id,
                error,
            )
        return connected

    def _finish(self, client: HubSpotClient, wish: Wish) -> InboxConnected:
        there = [one for one in client.channel_accounts(wish.channel_id) if self._is_it(one, wish)]
        if there:
            if not any(one.get("authorized") is True for one in there):
                client.authorize_channel_account(wish.channel_id, str(there[0].get("id")), True)
            return InboxConnected(was_there=True, back_to=None)
        try:
            answer = self._stage(client, wish)
        except HubSpotConflict:  # of an account that is gone, HubSpot may still hold the identifier
            answer = self._stage(client, wish, again=secrets.token_hex(4))
        told = (str(answer.get("genericChannelId")), str(answer.get("inboxId")))
        if told != (wish.channel_id, wish.inbox_id):
            detail = f"HubSpot's token is for channel {told[0]} and inbox {told[1]}"[:200]
            raise FlowRefused(ConnectProblem.OTHER_INBOX, detail)
        logger.info("Inbox %s of portal %s has been connected", wish.inbox_id, wish.portal_id)
        return InboxConnected(was_there=False, back_to=self._way_back(client, wish))

    def _is_it(self, account: Mapping[str, Any], wish: Wish) -> bool:
        is_ours = mark_of_account(account) == self._ledger.deployment_id
        return is_ours and str(account.get("inboxId")) == wish.inbox_id and account.get("archived") is not True

    def _stage(self, client: HubSpotClient, wish: Wish, *, again: str = "") -> dict[str, Any]:
        identifier = account_identifier(self._ledger.deployment_id, wish.portal_id, wish.inbox_id, again=again)
        name = self._services.settings.channel_name or NAME
        return client.stage_account(wish.channel_id, wish.account_token, name=name, identifier=identifier)

    def _way_back(self, client: HubSpotClient, wish: Wish) -> str | None:
        """Return the address given, if it is HubSpot's or the portal's own; nobody else gets the browser."""
        url = wish.redirect_url
        if self._services.settings.is_stand_in and url.startswith(f"{self._services.settings.api_base_url}/connected?"):
            return url
        found = _URL.fullmatch(url)
        if found is None:
            return None
        host = found[1].lower()
        if host == "hubspot.com" or host.endswith(".hubspot.com"):
            return url
        try:
            domain = client.account_info().get("uiDomain")
        except HubSpotError:
            return None
        return url if isinstance(domain, str) and host == domain.lower() else None
