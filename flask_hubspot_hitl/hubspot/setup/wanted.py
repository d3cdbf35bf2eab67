"""Describe what HubSpot should have, and find how it differs. Pure data and functions, nothing is called.

Of ours it imports ``hubspot.subscriptions`` only. ``plan`` mends the differences, ``doctor`` reports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..subscriptions import MAX_CONCURRENT_REQUESTS as MAX_CONCURRENT_REQUESTS
from ..subscriptions import SUBSCRIPTIONS as SUBSCRIPTIONS
from ..subscriptions import Subscription as Subscription

Json = Mapping[str, Any]

# The mark of what is ours ---------------------------------------------------------------------------------

_TAG = "flask-hubspot-hitl"
_IN_TEXT = re.compile(rf" ?\[{_TAG} ([\w-]+)\]")
_IN_IDENTIFIER = re.compile(rf"{_TAG}\.([\w-]+)\.")
IDENTIFIER_TYPE = "CHANNEL_SPECIFIC_OPAQUE_ID"


def mark_of_channel(channel: Json) -> str | None:
    """Return the deployment id in the description of a ``PublicChannelIntegrationChannel``; None without a mark."""
    found = _IN_TEXT.search(_text(channel.get("channelDescription")))
    return found[1] if found else None


def mark_of_account(account: Json) -> str | None:
    """Return the deployment id in the delivery identifier of a ``PublicChannelAccount``; None without a mark."""
    identifier = account.get("deliveryIdentifier")
    found = _IN_IDENTIFIER.match(_text(identifier.get("value")) if isinstance(identifier, Mapping) else "")
    return found[1] if found else None


def marked(description: str, deployment_id: str) -> str:
    """Return a channel's description with our mark at its end, and nobody else's."""
    return f"{_IN_TEXT.sub('', description)} [{_TAG} {deployment_id}]".strip()


def account_identifier(deployment_id: str, portal_id: str, inbox_id: str, *, again: str = "") -> dict[str, str]:
    """Return the delivery identifier of our account in an inbox; it is unique in the channel, and bears our mark.

    ``again`` makes another one for the same inbox, when HubSpot still holds the first for an account that is gone.
    """
    value = f"{_TAG}.{deployment_id}.{portal_id}.{inbox_id}"
    return {"type": IDENTIFIER_TYPE, "value": f"{value}.{again}" if again else value}


# The channel ----------------------------------------------------------------------------------------------

CAPABILITIES: dict[str, Any] = {
    "deliveryIdentifierTypes": ["CHANNEL_SPECIFIC_OPAQUE_ID", "HS_EMAIL_ADDRESS", "HS_PHONE_NUMBER"],
    "richText": ["HYPERLINK", "BOLD", "ITALIC"],
    "threadingModel": "INTEGRATION_THREAD_ID",
    "allowInlineImages": False,
    "allowOutgoingMessages": True,
    "allowConversationStart": False,
    "allowMultipleRecipients": False,
    "outgoingAttachmentTypes": ["FILE"],
    "maxFileAttachmentCount": 5,
    "maxFileAttachmentSizeBytes": 10_000_000,
    "maxTotalFileAttachmentSizeBytes": 30_000_000,
}
"""HubSpot OpenAPI, custom channels, ``capabilities``; keys that are not here are left as they are."""


def capabilities_of(
    *, quick_replies: bool = False, inline_images: bool = False, agents_may_start: bool = False
) -> dict[str, Any]:
    """Return what the channel can do, by what the host has switched on."""
    return CAPABILITIES | {
        "outgoingAttachmentTypes": ["FILE", "QUICK_REPLIES"] if quick_replies else ["FILE"],
        "allowInlineImages": inline_images,
        "allowConversationStart": agents_may_start,
    }


_DEFAULTS: dict[type, Any] = {list: [], bool: False}
"""What HubSpot takes for a capability that it does not tell."""

NAME = "Assistant"
DESCRIPTION = "Conversations that our assistant hands over to your team."


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Describe the channel as it is wanted.

    Of ``webhook_urls`` the first is wanted, the others are ours as well. ``name`` and ``logo_url`` are None when
    HubSpot may have any.
    """

    deployment_id: str
    webhook_urls: Sequence[str]
    redirect_url: str
    """Of HubSpot's own "connect a channel" flow."""
    name: str | None = None
    logo_url: str | None = None
    capabilities: Json = field(default_factory=capabilities_of)

    def body(self) -> dict[str, Any]:
        """``PublicChannelIntegrationChannelCreate``."""
        return {"name": NAME, "capabilities": self.capabilities} | channel_drift({}, self)


def channel_drift(have: Json, want: Channel) -> dict[str, Any]:
    """Return the fields to change in a ``PublicChannelIntegrationChannel``, with their values; {} if none differs."""
    description = _text(have.get("channelDescription"))
    mine = mark_of_channel(have) == want.deployment_id
    wanted = {
        "name": want.name,
        "webhookUrl": want.webhook_urls[0],
        "channelAccountConnectionRedirectUrl": want.redirect_url,
        "channelDescription": description if mine else marked(description or DESCRIPTION, want.deployment_id),
        "channelLogoUrl": want.logo_url,
    }
    changed: dict[str, Any] = {
        key: value for key, value in wanted.items() if value is not None and have.get(key) != value
    }
    capabilities = have.get("capabilities")
    known: dict[str, Any] = dict(capabilities) if isinstance(capabilities, Mapping) else {}
    if capability_drift(known, want.capabilities):
        changed["capabilities"] = {**known, **want.capabilities}
    return changed


def capability_drift(have: Json, want: Json = CAPABILITIES) -> dict[str, tuple[Any, Any]]:
    """Return the capabilities that differ: what HubSpot has (None: it tells nothing), and what we want."""
    return {key: (have.get(key), value) for key, value in want.items() if not _same_capability(have.get(key), value)}


def _same_capability(have: Any, want: Any) -> bool:
    if have is None:
        have = _DEFAULTS.get(type(want))
    if isinstance(have, list) and isinstance(want, list):
        return sorted(map(str, have)) == sorted(map(str, want))
    return bool(have == want)


# The account in an inbox ----------------------------------------------------------------------------------


def account_drift(have: Json) -> dict[str, Any]:
    """Return the fields to change in a ``PublicChannelAccount``; its name is the portal's own business."""
    return {} if have.get("authorized") is True else {"authorized": True}


# The app's webhooks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscriptionDrift:
    """Describe how an app's subscriptions differ: ``paused`` has HubSpot's id of each."""

    missing: tuple[Subscription, ...]
    paused: tuple[tuple[str, Subscription], ...]


def subscription_drift(have: Iterable[Json]) -> SubscriptionDrift:
    """Compare an app's subscriptions with the wanted ones; other subscriptions are left alone."""
    active: set[Subscription] = set()
    paused: dict[Subscription, str] = {}
    for one in have:
        found = Subscription(_text(one.get("eventType")), _text(one.get("propertyName")) or None)
        if one.get("active") is True:
            active.add(found)
        else:
            paused.setdefault(found, str(one.get("id")))
    lacking = [one for one in SUBSCRIPTIONS if one not in active]
    return SubscriptionDrift(
        missing=tuple(one for one in lacking if one not in paused),
        paused=tuple((paused[one], one) for one in lacking if one in paused),
    )


def webhook_settings(target_url: str, have: Json | None = None) -> dict[str, Any]:
    """``SettingsChangeRequest``: our target URL; the throttling that is there already stays."""
    throttling = (have or {}).get("throttling")
    known = throttling.get("maxConcurrentRequests") if isinstance(throttling, Mapping) else None
    return {"targetUrl": target_url, "throttling": {"maxConcurrentRequests": known or MAX_CONCURRENT_REQUESTS}}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
