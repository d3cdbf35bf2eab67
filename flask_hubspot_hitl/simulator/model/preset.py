"""The preset portal, and how further apps and portals are made, so that nothing needs configuring.

The preset's ids and secrets are fixed: a host keeps working over a reset and over a restart of the stand-in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .scopes import LEGACY_ONLY, NEW
from .world import (
    SCOPES,
    SUBSCRIPTIONS,
    Actor,
    App,
    Channel,
    ChannelAccount,
    Contact,
    Ids,
    Inbox,
    Install,
    Portal,
    Subscription,
    Token,
    World,
    now_ms,
)

API_VERSION = "HITL_TEST_API_VERSION"
"""Names the environment variable with the API version that hosts are told to use, to run a test suite with it."""
APP_ID = "3131"
PORTAL_ID = "424242"
INBOX_ID = "700200300"
HELP_DESK_ID = "700200999"
CHANNEL_ID = "100458"
CHANNEL_ACCOUNT_ID = "880011"
CLIENT_ID = "sim-client-0001"
CLIENT_SECRET = "sim-client-secret-0001"
DEVELOPER_KEY = "sim-developer-key-0001"
REFRESH_TOKEN = "sim-refresh-0001"
ACCESS_TOKEN = "sim-static-access-0001"

CAPABILITIES = {
    "deliveryIdentifierTypes": ["CHANNEL_SPECIFIC_OPAQUE_ID", "HS_EMAIL_ADDRESS", "HS_PHONE_NUMBER"],
    "richText": ["HYPERLINK", "BOLD", "ITALIC"],
    "threadingModel": "INTEGRATION_THREAD_ID",
    "allowInlineImages": False,
    "allowOutgoingMessages": True,
    "allowConversationStart": False,
    "allowMultipleRecipients": False,
    "outgoingAttachmentTypes": ["FILE"],
    "allowedFileAttachmentMimeTypes": ["image/*", "audio/*", "application/pdf", "text/plain"],
    "maxFileAttachmentCount": 5,
    "maxFileAttachmentSizeBytes": 10_000_000,
    "maxTotalFileAttachmentSizeBytes": 30_000_000,
}

AGENTS = (("987", "Noor Haddad", "noor@acme.test"), ("988", "Teo Lindqvist", "teo@acme.test"))
CONTACTS = (
    ("55512001", "Rosa", "Vidal", "rosa@example.test", "+34911222333"),
    ("55512002", "Amir", "Cohen", "amir@example.test", "+12125550142"),
    ("55512003", "Mei", "Tanaka", "mei@example.test", None),
)


def add_app(world: World, app: App, *, subscribed: bool = True) -> App:
    """Put an app into the world, subscribed to all five conversation event types."""
    now = now_ms()
    app.settings_ms = now
    for event_type, property_name in SUBSCRIPTIONS if subscribed else ():
        number = world.ids.small()
        app.subscriptions[number] = Subscription(number, event_type, property_name, True, now)
    world.apps[app.id] = app
    return app


def add_agents(world: World, portal_id: str, *, preset: bool = False) -> None:
    """Give a portal its two agents, each with a name and an e-mail address."""
    for user_id, name, email in AGENTS:
        actor_id = f"A-{user_id if preset else world.ids.small()}"
        agent = world.actors[portal_id, actor_id] = Actor(actor_id, portal_id, "AGENT", name, email)
        member = world.member(agent)
        if preset:
            member.owner_id, member.object_id = f"61{user_id}", f"45100{user_id}"


def scopes_of(app: App) -> tuple[str, ...]:
    """What an account grants that installs an app here, without asking: what its file requires, else all we need."""
    if app.optional_scopes is not None:
        return app.required_scopes
    if app.kind != "project":
        return SCOPES
    return (*(scope for scope in SCOPES if scope not in LEGACY_ONLY), *sorted(NEW))


def install(world: World, app_id: str, portal_id: str, refresh_token: str, access_token: str) -> Install:
    """Install an app in a portal, with a refresh token and a long-lived static access token."""
    user_id = world.agents(portal_id)[0].id.removeprefix("A-")
    scopes = scopes_of(world.apps[app_id])
    made = world.installs[app_id, portal_id] = Install(app_id, portal_id, refresh_token, scopes, user_id)
    world.tokens[access_token] = Token(access_token, app_id, portal_id, scopes, None)
    return made


def preset_world(ids: Ids, contacts: Sequence[Mapping[str, str]] = ()) -> World:
    """A fresh world with the preset app, portal, inboxes, channel, account, agents and contacts.

    :param contacts: the properties of further contacts.
    """
    world, now = World(ids), now_ms()
    add_app(world, App(APP_ID, CLIENT_ID, CLIENT_SECRET, DEVELOPER_KEY))
    world.portals[PORTAL_ID] = Portal(PORTAL_ID)
    world.inboxes[INBOX_ID] = Inbox(INBOX_ID, PORTAL_ID, "Inbox", "INBOX", now)
    world.inboxes[HELP_DESK_ID] = Inbox(HELP_DESK_ID, PORTAL_ID, "Help Desk", "HELP_DESK", now)
    add_agents(world, PORTAL_ID, preset=True)
    install(world, APP_ID, PORTAL_ID, REFRESH_TOKEN, ACCESS_TOKEN)
    world.channels[CHANNEL_ID] = Channel(CHANNEL_ID, APP_ID, "Acme Handoff", dict(CAPABILITIES), now)
    world.accounts[CHANNEL_ACCOUNT_ID] = ChannelAccount(
        CHANNEL_ACCOUNT_ID,
        CHANNEL_ID,
        PORTAL_ID,
        INBOX_ID,
        "Acme Handoff",
        True,
        now,
        {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": f"acme-{INBOX_ID}"},
    )
    for number, first, last, email, phone in CONTACTS:
        properties: dict[str, str | None] = {"firstname": first, "lastname": last, "email": email}
        if phone:
            properties["phone"] = phone
        world.contacts[number] = Contact(number, PORTAL_ID, properties, now, now)
    for given in contacts:
        number = ids.large()
        world.contacts[number] = Contact(number, PORTAL_ID, dict(given), now, now)
    return world


def make_installation(
    world: World,
    *,
    app_id: str | None = None,
    portal_id: str | None = None,
    client_id: str | None = None,
    client_secret: str | None = None,
    developer_key: str | None = None,
    target_url: str | None = None,
    subscribed: bool = True,
    kind: str | None = None,
) -> Install:
    """Make an app and a portal with one inbox and two agents, and install the one in the other.

    An app or portal that is there already is used (and changed where a value is given), so that one app can be
    installed in several portals.
    """
    ids = world.ids
    app = world.apps.get(app_id or "")
    if app is None:
        app = add_app(
            world,
            App(
                app_id or ids.small(),
                client_id or ids.secret("client"),
                client_secret or ids.secret("client-secret"),
                developer_key or ids.secret("developer-key"),
                kind=kind or "legacy-public",
                auth="static" if kind == "legacy-private" else "oauth",
            ),
            subscribed=subscribed,
        )
    else:
        app.client_id = client_id or app.client_id
        app.client_secret = client_secret or app.client_secret
        app.developer_key = developer_key or app.developer_key
    app.target_url = target_url or app.target_url
    portal = world.portals.get(portal_id or "")
    if portal is None:
        portal = Portal(portal_id or ids.small())
        world.portals[portal.id] = portal
        inbox_id = ids.large()
        world.inboxes[inbox_id] = Inbox(inbox_id, portal.id, "Inbox", "INBOX", now_ms())
        add_agents(world, portal.id)
    there = world.installs.get((app.id, portal.id))
    return there or install(world, app.id, portal.id, ids.secret("refresh"), ids.secret("static-access"))


def token_setting(world: World, app: App, made: Install) -> dict[str, str]:
    """The setting with an installation's refresh token, or with its static token where an app has no other."""
    if app.auth == "oauth":
        return {"HUBSPOT_HITL_REFRESH_TOKEN": made.refresh_token}
    values = [t.value for t in world.tokens.values() if (t.app_id, t.portal_id) == (app.id, made.portal_id)]
    return {"HUBSPOT_HITL_ACCESS_TOKEN": values[0]}


def env(world: World, made: Install, base_url: str) -> dict[str, str]:
    """The ``HUBSPOT_HITL_*`` settings with which a host talks to an installation."""
    app = world.apps[made.app_id]
    answer = {
        "HUBSPOT_HITL_API_BASE_URL": base_url,
        "HUBSPOT_HITL_CLIENT_ID": app.client_id,
        "HUBSPOT_HITL_CLIENT_SECRET": app.client_secret,
        "HUBSPOT_HITL_APP_ID": app.id,
        "HUBSPOT_HITL_APP_KIND": app.kind,
        "HUBSPOT_HITL_DEVELOPER_API_KEY": app.developer_key,
        **token_setting(world, app, made),
        "HUBSPOT_HITL_PORTAL_ID": made.portal_id,
    }
    inbox = next((i for i in world.inboxes.values() if i.portal_id == made.portal_id), None)
    if inbox is not None:
        answer["HUBSPOT_HITL_INBOX_ID"] = inbox.id
    for account in world.accounts.values():
        channel = world.channels[account.channel_id]
        if account.portal_id == made.portal_id and channel.app_id == app.id and not account.archived:
            answer["HUBSPOT_HITL_CHANNEL_ID"] = channel.id
            answer["HUBSPOT_HITL_CHANNEL_ACCOUNT_ID"] = account.id
            break
    version = os.environ.get(API_VERSION)
    return answer | ({"HUBSPOT_HITL_API_VERSION": version} if version else {})
