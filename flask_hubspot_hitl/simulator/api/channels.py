"""Custom channels API: channels and channel accounts, in v3, 2026-03 and 2026-09.

Source: docs/hubspot.rst (Channels; Channel accounts).

Of the same API, messages are in ``channel_messages.py`` and staging tokens in ``connect.py``.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, request

from ..behaviour import events, people, shapes
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, App, Channel, ChannelAccount, Install, now_ms
from .wire import bearer, bearer_value, check, developer_app, find_channel, json_body, on, page, query_bool, query_list

bp = Blueprint("channels", __name__)

# v3's document lists create and list under a path of its own; everybody uses the other one
# (docs/hubspot.rst: Channel calls)
BASES = (
    "/conversations/v3/custom-channels",
    "/conversations/custom-channels/v3",
    "/conversations/custom-channels/2026-03",
    "/conversations/custom-channels/2026-09",
)
READ = ("conversations.custom_channels.read", "conversations.custom_channels.write")
WRITE = ("conversations.custom_channels.write",)

IDENTIFIER_TYPES = frozenset({"CHANNEL_SPECIFIC_OPAQUE_ID", "HS_EMAIL_ADDRESS", "HS_PHONE_NUMBER", "HS_SHORT_CODE"})
IDENTIFIER = {"type!": IDENTIFIER_TYPES, "value!": str}
RICH_TEXT = frozenset(
    {
        "BLOCKQUOTE",
        "BOLD",
        "FONT_SIZE",
        "FONT_STYLE",
        "HYPERLINK",
        "ITALIC",
        "LISTS",
        "TEXT_ALIGNMENT",
        "TEXT_HIGHLIGHT_COLOR",
        "TEXT_COLOR",
        "UNDERLINE",
    }
)
CAPABILITIES = {
    "deliveryIdentifierTypes": [IDENTIFIER_TYPES],
    "richText": [RICH_TEXT],
    "threadingModel": frozenset({"INTEGRATION_THREAD_ID", "DELIVERY_IDENTIFIER"}),
    "allowInlineImages": bool,
    "allowOutgoingMessages": bool,
    "allowConversationStart": bool,
    "allowMultipleRecipients": bool,
    "outgoingAttachmentTypes": [frozenset({"FILE", "QUICK_REPLIES"})],
    "allowedFileAttachmentMimeTypes": [str],
    "maxFileAttachmentCount": int,
    "maxFileAttachmentSizeBytes": int,
    "maxTotalFileAttachmentSizeBytes": int,
}
DEFAULTS: JSON = {
    "deliveryIdentifierTypes": [],
    "richText": [],
    "allowInlineImages": False,
    "allowOutgoingMessages": False,
    "allowConversationStart": False,
    "allowMultipleRecipients": False,
    "outgoingAttachmentTypes": [],
}
CHANNEL = {
    "name": str,
    "capabilities": {},
    "webhookUrl": str,
    "channelAccountConnectionRedirectUrl": str,
    "channelDescription": str,
    "channelLogoUrl": str,
}
FIELDS = {
    "name": "name",
    "webhookUrl": "webhook_url",
    "channelAccountConnectionRedirectUrl": "redirect_url",
    "channelDescription": "description",
    "channelLogoUrl": "logo_url",
}


def developer(sim: Simulation) -> App:
    """Return the app whose developer key came; the 2026-09 document accepts nothing else at channel level."""
    return developer_app(sim, bearer_too="2026-09" not in request.path)


def check_tier(sim: Simulation) -> None:
    """Check the portal's tier: the documents want Sales or Service Hub Professional. Raises ApiError (403)."""
    if sim.chaos.tier != "professional":
        raise ApiError(403, "FORBIDDEN", "Custom channels need Sales Hub or Service Hub Professional")


def caller(sim: Simulation, *scopes: str) -> Install:
    """Return the installation that asks about accounts or messages; private apps may be refused (open question 11)."""
    made = bearer(sim, *scopes)
    check_tier(sim)
    if sim.chaos.private_apps == "refused" and sim.world.tokens[bearer_value()].expires_ms is None:
        raise ApiError(403, "FORBIDDEN", "Custom channels are for public apps: this token is a private app's")
    return made


def check_urls(body: JSON) -> None:
    """Check that what should be a URL is one, or empty. Raises ApiError (400)."""
    for name in ("webhookUrl", "channelAccountConnectionRedirectUrl", "channelLogoUrl"):
        if body.get(name) and not re.fullmatch(r"https?://[!-~]+", body[name]):
            raise ApiError.invalid(name, "must be a URL")


def check_capabilities(given: JSON) -> JSON:
    """Fill in a channel's capabilities with defaults; refuse an invalid one (docs/hubspot.rst: Capabilities)."""
    wrong = []
    for key, value in given.items():
        if value is None:
            continue
        if key not in CAPABILITIES:
            wrong.append(f"{key[:60]}: unknown capability")
            continue
        try:
            check(value, CAPABILITIES[key], key)
        except ApiError as problem:
            wrong.append(f"{key}: {problem.body['errors'][0]['message']}")
    if wrong:
        raise ApiError(
            400,
            "VALIDATION_ERROR",
            f"One or more Channel Capabilities specified had invalid values: `{'`, `'.join(wrong)}`",
            subCategory="CustomChannelsError.INVALID_CHANNEL_CAPABILITY_VALUES",
            context={"capabilityKeysAndValues": wrong},
        )
    return DEFAULTS | {key: value for key, value in given.items() if value is not None}


@on(bp, "POST", BASES)
def create_channel() -> Any:
    sim = current()
    app = developer(sim)
    body = json_body({**CHANNEL, "name!": str, "capabilities!": {}})
    check_urls(body)
    mine = [c for c in sim.world.channels.values() if c.app_id == app.id and not c.archived]
    if sim.chaos.max_channels is not None and len(mine) >= sim.chaos.max_channels:
        raise ApiError(400, "VALIDATION_ERROR", f"An app may have {sim.chaos.max_channels} channels")
    channel = Channel(
        sim.ids.small(),
        app.id,
        body["name"],
        check_capabilities(body["capabilities"]),
        now_ms(),
        body.get("webhookUrl"),
        body.get("channelAccountConnectionRedirectUrl"),
        body.get("channelDescription"),
        body.get("channelLogoUrl"),
        hidden_polls=sim.chaos.channel_hidden_polls,
        visible_ms=now_ms() + round(sim.chaos.channel_hidden_seconds * 1000),
    )
    sim.world.channels[channel.id] = channel
    return shapes.channel(channel), 201


@on(bp, "GET", BASES)
def list_channels() -> Any:
    sim = current()
    app = developer(sim)
    mine = [c for c in sim.world.channels.values() if c.app_id == app.id and not c.archived]
    visible = [c for c in mine if sim.world.visible(c)]
    for channel in mine:
        channel.hidden_polls -= channel.hidden_polls > 0
    return page(visible, shapes.channel, page_size=sim.chaos.page_size, total=True)


@on(bp, "GET", BASES, "/<channel_id>")
def get_channel(channel_id: str) -> Any:
    sim = current()
    return shapes.channel(find_channel(sim.world, developer(sim).id, channel_id))


@on(bp, "PATCH", BASES, "/<channel_id>")
def update_channel(channel_id: str) -> Any:
    sim = current()
    channel = find_channel(sim.world, developer(sim).id, channel_id)
    body = json_body(CHANNEL)
    check_urls(body)
    if body.get("capabilities") is not None:
        channel.capabilities = check_capabilities(body["capabilities"])
    for key, attribute in FIELDS.items():
        if key in body and not (key == "name" and not body[key]):
            setattr(channel, attribute, body[key])
    return shapes.channel(channel)


@on(bp, "DELETE", BASES, "/<channel_id>")
def archive_channel(channel_id: str) -> Any:
    sim = current()
    find_channel(sim.world, developer(sim).id, channel_id).archived = True
    return "", 204


# --- accounts


def find_account(sim: Simulation, portal_id: str, channel_id: str, account_id: str) -> ChannelAccount:
    """Return an account of the channel in this portal, else answer 404."""
    account = sim.world.accounts.get(account_id)
    if account is None or account.portal_id != portal_id or account.channel_id != channel_id:
        raise ApiError.missing(f"Channel account {account_id[:40]}")
    return account


def check_connection(
    sim: Simulation, channel: Channel, portal_id: str, inbox_id: str, identifier: JSON | None
) -> JSON | None:
    """Return the delivery identifier if an account may be made with it; answer 409 when the channel has it already."""
    check_tier(sim)
    inbox = sim.world.inboxes.get(inbox_id)
    if inbox is None or inbox.portal_id != portal_id:
        raise ApiError.invalid("inboxId", "no such inbox")
    made = [a for a in sim.world.accounts.values() if a.channel_id == channel.id]
    there = [a for a in made if not a.archived]
    most = sim.chaos.max_accounts
    if most is not None and sum(a.portal_id == portal_id for a in there) >= most:
        raise ApiError(400, "VALIDATION_ERROR", f"A channel may have {most} accounts")
    if identifier is None:
        return None
    identifier = {key: identifier[key] for key in ("type", "value")}
    people.check_identifier(identifier, "deliveryIdentifier")
    if any(other.identifier == identifier for other in (made if sim.chaos.removed_accounts == "hold" else there)):
        raise ApiError(409, "CONFLICT", "A channel account with this delivery identifier exists already")
    return identifier


def connect(
    sim: Simulation,
    channel: Channel,
    portal_id: str,
    inbox_id: str,
    *,
    name: str,
    authorized: bool,
    identifier: JSON | None,
) -> ChannelAccount:
    """Make an account and tell the channel. Raises ApiError like `check_connection`."""
    identifier = check_connection(sim, channel, portal_id, inbox_id, identifier)
    account = ChannelAccount(sim.ids.large(), channel.id, portal_id, inbox_id, name, authorized, now_ms(), identifier)
    sim.world.accounts[account.id] = account
    events.account_event(sim, account, "CREATED", account.created_ms)
    return account


@on(bp, "POST", BASES, "/<channel_id>/channel-accounts")
def create_account(channel_id: str) -> Any:
    sim = current()
    made = caller(sim, *READ)
    channel = find_channel(sim.world, made.app_id, channel_id)
    body = json_body({"inboxId!": str, "name!": str, "authorized": bool, "deliveryIdentifier": IDENTIFIER})
    account = connect(
        sim,
        channel,
        made.portal_id,
        body["inboxId"],
        name=body["name"],
        authorized=body.get("authorized") is not False,
        identifier=body.get("deliveryIdentifier"),
    )
    return shapes.account(account), 201


@on(bp, "GET", BASES, "/<channel_id>/channel-accounts")
def list_accounts(channel_id: str) -> Any:
    sim = current()
    made = caller(sim, *READ)
    channel = find_channel(sim.world, made.app_id, channel_id)
    types, values = query_list("deliveryIdentifierType"), query_list("deliveryIdentifierValue")
    archived = query_bool("archived")
    found = [
        a
        for a in sim.world.accounts.values()
        if a.channel_id == channel.id
        and a.portal_id == made.portal_id
        and a.archived == archived
        and (not types or (a.identifier or {}).get("type") in types)
        and (not values or (a.identifier or {}).get("value") in values)
    ]
    return page(found, shapes.account, page_size=sim.chaos.page_size, total=True)


@on(bp, "GET", BASES, "/<channel_id>/channel-accounts/<account_id>")
def get_account(channel_id: str, account_id: str) -> Any:
    sim = current()
    made = caller(sim, *READ)
    channel = find_channel(sim.world, made.app_id, channel_id)
    account = find_account(sim, made.portal_id, channel.id, account_id)
    if account.archived != query_bool("archived"):
        raise ApiError.missing("Channel account")
    return shapes.account(account)


@on(bp, "PATCH", BASES, "/<channel_id>/channel-accounts/<account_id>")
def update_account(channel_id: str, account_id: str) -> Any:
    sim = current()
    made = caller(sim, *READ)
    channel = find_channel(sim.world, made.app_id, channel_id)
    account = find_account(sim, made.portal_id, channel.id, account_id)
    body = json_body({"authorized": bool, "name": str})
    for name in ("authorized", "name"):
        if name in body and body[name] is None:
            raise ApiError.invalid(name, "must not be null")
    if "authorized" in body:
        account.authorized = body["authorized"]
    account.name = body.get("name") or account.name
    events.account_event(sim, account, "UPDATED", now_ms())
    return shapes.account(account)
