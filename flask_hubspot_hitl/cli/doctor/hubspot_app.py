"""Check the app at HubSpot: its channel, its webhook target and its subscriptions. All portals share them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import HubSpotNotFound, HubSpotRejected, HubSpotUnavailable
from ...handoffs.words import sentence
from ...hubspot.admin import AppCalls
from ...hubspot.project import APP_FILE
from ...hubspot.scopes import LEGACY_FILES_SCOPE, AppKind
from ...hubspot.setup import kind, wanted
from ...portals import api_version, app_kind, routing, setup
from ...runtime import Runtime
from . import project_app
from .findings import Code, Finding

HUBSPOT_SECONDS = 6.0
"""Seconds that a check may spend on HubSpot's answers."""
_BY_HAND = "A private app has none: compare its Webhooks tab by hand with 'flask hubspot-hitl setup --plan'."
_OAUTH = (
    f"Have it installed by OAuth: in {APP_FILE} make oauth the type of its auth, run 'hs project upload', and open the "
    "link that this makes: flask hubspot-hitl install-url"
)
_TAKE_OVER = (
    "If that address is an old one of yours, run: flask hubspot-hitl setup --take-over. If another installation is "
    "served there, give this one an app of its own at HubSpot."
)
"""Without the option ``setup`` refuses: the other installation may live by it."""
_NO_CREDENTIALS = (401, 403)


def check(runtime: Runtime) -> Iterator[Finding]:
    """Check with the developer key; without one HubSpot shows nothing of the app."""
    settings = runtime.settings
    with runtime.ledger.read() as tx:
        channel_id = routing.channel_of(tx, settings)
    yield from _check_settings(runtime)
    if channel_id is None:
        yield Code.NO_CHANNEL.found("Neither HUBSPOT_HITL_CHANNEL_ID is set nor has setup stored one.")
    if settings.access_token is not None and settings.access_token.startswith("pat-"):
        is_project = runtime.services.app_kind() is AppKind.PROJECT
        yield Code.PRIVATE_APP.found("HUBSPOT_HITL_ACCESS_TOKEN begins with pat-.", fix=_OAUTH if is_project else None)
    lacking = [name for name in ("APP_ID", "DEVELOPER_API_KEY") if getattr(settings, name.lower()) is None]
    if lacking:
        names = " and ".join(f"HUBSPOT_HITL_{name}" for name in lacking)
        is_private = runtime.services.app_kind() is AppKind.LEGACY_PRIVATE
        yield Code.APP_UNSEEN.found(f"Not set: {names}.", fix=_BY_HAND if is_private else None)
        return
    client = runtime.services.app_client()
    try:
        with client.deadline(HUBSPOT_SECONDS):
            if channel_id is None:
                client.list_channels()
            else:
                yield from _check_channel(runtime, client, channel_id)
            yield from _check_webhooks(runtime, client)
    except HubSpotUnavailable as error:
        yield Code.HUBSPOT_DOWN.found(sentence(error))
    except HubSpotRejected as error:
        if error.status in _NO_CREDENTIALS:
            yield Code.DEVELOPER_KEY.found(sentence(error))
        else:
            yield Code.REFUSED.found(sentence(error))
    finally:
        client.close()


def _check_settings(runtime: Runtime) -> Iterator[Finding]:
    """Look at what is known without asking HubSpot."""
    settings = runtime.settings
    with runtime.ledger.read() as tx:
        api, oauth = api_version.api_warning(tx, settings), api_version.oauth_warning(tx, settings)
    if api is not None:
        yield Code.API_ENDS.found(sentence(api))
    if oauth is not None:
        yield Code.OAUTH_ENDS.found(sentence(oauth))
    if runtime.services.app_kind() is AppKind.PROJECT and LEGACY_FILES_SCOPE in settings.scopes:
        yield Code.LEGACY_SCOPE.found("HUBSPOT_HITL_SCOPES has files in it.")


def _check_channel(runtime: Runtime, client: AppCalls, channel_id: str) -> Iterator[Finding]:
    settings = runtime.settings
    try:
        channel = client.get_channel(channel_id)
    except HubSpotNotFound:
        yield Code.CHANNEL_GONE.found(f"The app {settings.app_id} has no channel {channel_id}.")
        return
    want = setup.wanted_channel(settings, runtime.ledger.deployment_id)
    there = channel.get("webhookUrl")
    if there not in want.webhook_urls:
        told = f"Channel {channel_id} has {there or 'none'}, and ours is {want.webhook_urls[0]}."
        yield Code.CHANNEL_URL.found(told, fix=_TAKE_OVER if there else None)
    connect = channel.get("channelAccountConnectionRedirectUrl")
    if connect != want.redirect_url:
        yield Code.CONNECT_URL.found(f"Channel {channel_id} has {connect or 'none'}, and ours is {want.redirect_url}.")
    mark = wanted.mark_of_channel(channel)
    if mark not in (None, runtime.ledger.deployment_id):
        yield Code.CHANNEL_MARK.found(f"Channel {channel_id} is {mark}'s; this is {runtime.ledger.deployment_id}.")
    have: Any = channel.get("capabilities")
    drift = wanted.capability_drift(have if isinstance(have, Mapping) else {}, want.capabilities)
    if drift:
        differences = "; ".join(
            f"{key} is {json.dumps(is_now)}, wanted {json.dumps(need)}" for key, (is_now, need) in drift.items()
        )
        yield Code.CAPABILITIES.found(f"Channel {channel_id}: {differences}.")


def _check_webhooks(runtime: Runtime, client: AppCalls) -> Iterator[Finding]:
    with runtime.ledger.read() as tx:
        known = app_kind.known(tx, runtime.settings)
    if not known.has_webhooks_api:
        return
    try:
        yield from _compare_webhooks(runtime, client)
    except HubSpotRejected as error:  # the key is right: HubSpot has shown the channel
        if known.is_certain:
            yield Code.APP_UNSEEN.found(sentence(error), fix=kind.contradiction(known.kind))
            return
        yield Code.APP_UNSEEN.found(f"{sentence(error)} {kind.UNKNOWN}", fix=f"{kind.SAY_IT} {kind.HOW_TO_SEE}")
        yield from project_app.check_arrivals(runtime)


def _compare_webhooks(runtime: Runtime, client: AppCalls) -> Iterator[Finding]:
    urls = runtime.settings.webhook_urls()
    drift = wanted.subscription_drift(client.webhook_subscriptions())  # first: a 404 means that there is no API for it
    try:
        target = client.webhook_settings().get("targetUrl")
    except HubSpotNotFound:
        target = None
    if target not in urls:
        told = f"The app has {target or 'none'}, and ours is {urls[0]}."
        yield Code.TARGET_URL.found(told, fix=_TAKE_OVER if target else None)
    amiss = [f"{one} is missing" for one in drift.missing] + [f"{one} is paused" for _, one in drift.paused]
    if amiss:
        yield Code.SUBSCRIPTIONS.found(f"{'; '.join(amiss)}.")
