"""Check one portal, a HubSpot account: its token, what it may do, its inboxes, and our channel in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...config import Settings
from ...errors import (
    CallPostponed,
    HubSpotNotFound,
    HubSpotRejected,
    HubSpotUnavailable,
    NotConfigured,
    TokenRevoked,
    WrongPortal,
)
from ...handoffs.words import sentence
from ...hubspot import scopes
from ...hubspot.client import HubSpotClient
from ...hubspot.setup import wanted
from ...hubspot.tickets import HELP_DESK
from ...ledger import AccountRecord, InstallationState
from ...portals import routing
from ...runtime import Runtime
from . import automation, availability, tickets
from .findings import Code, Finding, Level
from .hubspot_app import HUBSPOT_SECONDS

KINDS = ("INBOX", HELP_DESK)
MISSING_SCOPES = "MISSING_SCOPES"
SETUP = "flask hubspot-hitl setup"
"""Looks at the inboxes that are chosen; at others when ``--inbox`` names them."""


def portal_ids(runtime: Runtime) -> list[str]:
    """Return the portals to look at: the one configured, or all that have installed the app."""
    if runtime.settings.portal_id is not None:
        return [runtime.settings.portal_id]
    with runtime.ledger.read() as tx:
        return [one.portal_id for one in tx.installations.all()]


def none() -> Iterator[Finding]:
    """Report that there is no portal to look at."""
    yield Code.NO_PORTAL.found("None has installed the app, and HUBSPOT_HITL_PORTAL_ID is not set.")


def check(runtime: Runtime, portal_id: str) -> Iterator[Finding]:
    """Check everything about one portal; its troubles do not keep others from being checked."""
    lacking: list[str] = []
    yield from automation.check(runtime, portal_id)
    try:
        client = runtime.services.client(portal_id)
        with client.deadline(HUBSPOT_SECONDS):
            for one in _examine(runtime, client, portal_id, lacking):
                yield one if isinstance(one, Finding) else one[0].found(one[1], portal_id=portal_id)
    except WrongPortal as error:
        yield Code.OTHER_PORTAL.found(sentence(error), portal_id=portal_id)
    except NotConfigured as error:
        yield Code.NO_TOKEN.found(sentence(error), portal_id=portal_id)
    except TokenRevoked as error:
        yield Code.REVOKED.found(sentence(error), portal_id=portal_id)
    except CallPostponed as error:
        yield Code.POSTPONED.found(f"{sentence(error)[:-1]}: {error.retry_after or 0:.0f} s left.", portal_id=portal_id)
    except HubSpotUnavailable as error:
        is_no = error.status is not None and 400 <= error.status < 408
        yield (Code.APP_REFUSED if is_no else Code.HUBSPOT_DOWN).found(sentence(error), portal_id=portal_id)
    except HubSpotRejected as error:
        if error.category == MISSING_SCOPES:
            if not lacking:
                yield Code.SCOPES.found(sentence(error), portal_id=portal_id)
        else:
            yield Code.REFUSED.found(sentence(error), portal_id=portal_id)


def weighed(runtime: Runtime, findings: list[Finding]) -> Iterator[Finding]:
    """Return what was found, once every portal was looked at: one that removed the app is no error beside others.

    Nothing goes there unless ``start`` names it.
    """
    refused = [one for one in findings if one.code is Code.REVOKED]
    yield from (one for one in findings if one not in refused)
    if not refused or runtime.settings.portal_id is not None:
        yield from refused
        return
    with runtime.ledger.read() as tx:
        states = {one.portal_id: one.state for one in tx.installations.all()}
    has_active = InstallationState.ACTIVE in states.values()
    for one in refused:
        if has_active and states.get(str(one.portal_id)) is InstallationState.REVOKED:
            fix = f"If it is to have the app no more, leave it as it is. {one.fix}"
            yield replace(one, level=Level.WARNING, fix=fix)
        else:
            yield one


What = tuple[Code, str]


def _examine(runtime: Runtime, client: HubSpotClient, portal_id: str, lacking: list[str]) -> Iterator[What | Finding]:
    owner = str(client.account_info().get("portalId"))
    if owner != portal_id:
        yield Code.OTHER_PORTAL, f"It is portal {owner}'s, and not {portal_id}'s."
        return
    yield from _check_token(runtime, client, lacking)
    yield from availability.check(runtime.settings, client)
    inboxes = {str(one.get("id")): one for one in client.inboxes()}
    chosen = _chosen_inboxes(runtime, portal_id)
    if not chosen and not _is_configured(runtime.settings, portal_id):
        yield Code.NO_INBOX, "Neither HUBSPOT_HITL_INBOX_ID is set nor has setup connected an inbox."
    for inbox_id in chosen:
        if inbox_id not in inboxes:
            there = ", ".join(sorted(inboxes)) or "none"
            yield Code.INBOX_GONE, f"The portal has no inbox or help desk {inbox_id}; it has {there}."
        elif inboxes[inbox_id].get("type") not in KINDS:
            yield Code.INBOX_KIND, f"Inbox {inbox_id} is a {str(inboxes[inbox_id].get('type'))[:40]}."
    has_help_desk = any(inboxes[one].get("type") == HELP_DESK for one in chosen if one in inboxes)
    yield from tickets.check(runtime.settings, client, has_help_desk=has_help_desk)
    yield from _check_accounts(runtime, client, portal_id, [one for one in chosen if one in inboxes], list(inboxes))


# The token --------------------------------------------------------------------------------------------------------


def _check_token(runtime: Runtime, client: HubSpotClient, lacking: list[str]) -> Iterator[What]:
    settings = runtime.settings
    try:
        facts = _introspect(runtime, client)
    except HubSpotRejected as error:
        yield Code.APP_REFUSED, sentence(error)
        return
    app_id = str(facts.get("app_id") or settings.app_id)
    if settings.app_id not in (None, app_id):
        yield Code.OTHER_APP, f"It is app {app_id}'s, and HUBSPOT_HITL_APP_ID is {settings.app_id}."
    told = facts.get("scopes")
    if not isinstance(told, list):
        return
    granted, kind = list(map(str, told)), runtime.services.app_kind()
    asked = [one for one in runtime.services.wanted_scopes() if one not in (*availability.SCOPES, *tickets.SCOPES)]
    lacking += scopes.lacking(asked, granted)
    if lacking:
        yield Code.SCOPES, f"Not granted: {', '.join(lacking)}."
    more = scopes.not_in_use(granted, settings.scopes)
    if more:
        yield Code.MORE_SCOPES, f"Granted, and not used: {', '.join(more)}."
    if kind is scopes.AppKind.PROJECT and scopes.LEGACY_FILES_SCOPE in granted:
        yield Code.LEGACY_SCOPE, "The portal has granted files: the app is a legacy one, it seems."


def _introspect(runtime: Runtime, client: HubSpotClient) -> dict[str, Any]:
    """What HubSpot tells of the token: ``scopes``, ``app_id``; {} when it does not, as of private apps' tokens."""
    if runtime.settings.client_id is None:
        return {}
    endpoint = runtime.services.token_endpoint()
    try:
        return endpoint.introspect(client.tokens.token())
    except HubSpotNotFound:
        return {}
    finally:
        endpoint.close()


# Our channel in its inboxes ---------------------------------------------------------------------------------------


def _chosen_inboxes(runtime: Runtime, portal_id: str) -> list[str]:
    """Where conversations of this portal may go, the default first."""
    settings = runtime.settings
    with runtime.ledger.read() as tx:
        default = routing.default_inbox(tx, settings, portal_id)
        channel_id = routing.channel_of(tx, settings)
        stored = [one for one in tx.channels.accounts(portal_id) if channel_id in (None, one.channel_id)]
    configured = settings.inbox_id if portal_id == settings.portal_id else ()
    chosen = [*([default] if default else ()), *configured, *(one.inbox_id for one in stored)]
    return list(dict.fromkeys(chosen))


def _check_accounts(
    runtime: Runtime, client: HubSpotClient, portal_id: str, inbox_ids: list[str], all_inboxes: list[str]
) -> Iterator[What | Finding]:
    settings = runtime.settings
    with runtime.ledger.read() as tx:
        channel_id = routing.channel_of(tx, settings)
        stored = tx.channels.accounts(portal_id)
        plain = routing.chosen_inboxes(tx, settings, portal_id) or (all_inboxes if len(all_inboxes) == 1 else ())
    if channel_id is None:
        return  # the app's check says so
    try:
        there = {str(one.get("id")): one for one in client.channel_accounts(channel_id)}
    except HubSpotNotFound:
        yield Code.CHANNEL_GONE, f"The portal does not see channel {channel_id}."
        return
    except HubSpotRejected as error:
        if error.status != 403 or error.category == MISSING_SCOPES:
            raise
        yield Code.TIER, sentence(error)
        return
    if not inbox_ids and _is_configured(settings, portal_id):
        inbox_ids = [str(there.get(settings.channel_account_id or "", {}).get("inboxId"))]
    for inbox_id in inbox_ids:
        account_id = _account_used(settings, stored, portal_id, channel_id, inbox_id, inbox_ids)
        account = _account_of(there, inbox_id) if account_id is None else there.get(account_id)
        is_plain = inbox_id in plain or inbox_id not in all_inboxes
        for code, what in _check_inbox(runtime, channel_id, inbox_id, account_id, account):
            fix = code.fix if is_plain else code.fix.replace(SETUP, f"{SETUP} --inbox {inbox_id}")
            yield code.found(what, portal_id=portal_id, fix=fix)


def _check_inbox(
    runtime: Runtime, channel_id: str, inbox_id: str, account_id: str | None, account: Mapping[str, Any] | None
) -> Iterator[What]:
    if account is not None:
        yield from _check_account(account, inbox_id, runtime.ledger.deployment_id)
    elif account_id is not None:
        yield Code.ACCOUNT_GONE, f"Channel {channel_id} has no account {account_id} any more."
    else:
        yield Code.NOT_CONNECTED, f"Channel {channel_id} has no account in inbox {inbox_id}."


def _is_configured(settings: Settings, portal_id: str) -> bool:
    """True when the account of the default inbox is named in the configuration."""
    return portal_id == settings.portal_id and settings.channel_account_id is not None


def _account_used(
    settings: Settings, stored: list[AccountRecord], portal_id: str, channel_id: str, inbox_id: str, chosen: list[str]
) -> str | None:
    """The account that ``start`` would use as far as it is known here; None: it asks HubSpot for the inbox's."""
    if _is_configured(settings, portal_id) and inbox_id == chosen[0]:
        return settings.channel_account_id
    mine = (one for one in stored if (one.channel_id, one.inbox_id) == (channel_id, inbox_id))
    return next((one.account_id for one in mine), None)


def _account_of(there: Mapping[str, Mapping[str, Any]], inbox_id: str) -> Mapping[str, Any] | None:
    """An inbox's account, if possible one that is authorised."""
    found = [one for one in there.values() if str(one.get("inboxId")) == inbox_id]
    return next((one for one in found if one.get("authorized") is True), found[0] if found else None)


def _check_account(account: Mapping[str, Any], inbox_id: str, deployment_id: str) -> Iterator[What]:
    name = f"Channel account {account.get('id')} (inbox {inbox_id})"
    if str(account.get("inboxId")) != inbox_id:
        yield Code.ACCOUNT_INBOX, f"{name} is one of inbox {account.get('inboxId')}."
    if account.get("archived") is True:
        yield Code.ACCOUNT_GONE, f"{name} is archived."
        return
    if account.get("authorized") is not True:
        yield Code.UNAUTHORIZED, f"{name} has authorized: false."
    if account.get("active") is False:
        yield Code.INACTIVE, f"{name} has active: false."
    mark = wanted.mark_of_account(account)
    if mark not in (None, deployment_id):
        yield Code.ACCOUNT_MARK, f"{name} is {mark}'s; this is {deployment_id}."
