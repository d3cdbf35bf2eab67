"""What exists in the stand-in: apps, portals, inboxes, channels, threads, contacts, files.

Plain dataclasses in plain dictionaries, keyed by string id. Knows nothing of HTTP and nothing of JSON shapes.
"""

from __future__ import annotations

import itertools
import secrets
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .folders import Folder
from .journal import Journal
from .records import Record
from .staff import Member, Team

JSON = dict[str, Any]

SCOPES = (
    "oauth",
    "conversations.custom_channels.read",
    "conversations.custom_channels.write",
    "conversations.read",
    "conversations.write",
    "conversations.visitor_identification.tokens.create",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
    "files",
)

INSTALL_CAPS = {"private": 10, "marketplace": 25}
"""How many accounts may install a project app, by its distribution, until it is listed in the marketplace."""

SUBSCRIPTIONS: tuple[tuple[str, str | None], ...] = (
    ("conversation.creation", None),
    ("conversation.newMessage", None),
    ("conversation.deletion", None),
    ("conversation.privacyDeletion", None),
    ("conversation.propertyChange", "assignedTo"),
    ("conversation.propertyChange", "status"),
    ("conversation.propertyChange", "isArchived"),
)


def now_ms() -> int:
    """The time now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def iso(ms: int) -> str:
    """Epoch milliseconds the way HubSpot writes a time: ``2026-10-01T09:15:30.123Z``."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


class Ids:
    """Id factories. They outlive a reset, so that no id ever means two things within one process.

    HubSpot OpenAPI: ``channelId`` is int32, the other ids are numeric strings in int64, message ids are opaque.
    Thread ids start at the time of day, so that a restarted stand-in doesn't reuse those of the last run.
    """

    def __init__(self) -> None:
        self._thread = itertools.count(now_ms())
        self._small = itertools.count(100_900)
        self._large = itertools.count(900_100_200)
        self._event = itertools.count(3_816_279_340)

    def small(self) -> str:
        """A fresh id that fits int32: apps, channels, portals, users, subscriptions."""
        return str(next(self._small))

    def large(self) -> str:
        """A fresh numeric id: inboxes, accounts, contacts, visitors, files, tickets."""
        return str(next(self._large))

    def thread(self) -> str:
        """A fresh thread id, beyond int32."""
        return str(next(self._thread))

    def event(self) -> int:
        """A fresh webhook event id."""
        return next(self._event)

    @staticmethod
    def message() -> str:
        """A fresh, opaque message id."""
        return uuid.uuid4().hex

    @staticmethod
    def secret(kind: str) -> str:
        """A fresh secret; every secret of the stand-in starts with ``sim-``."""
        return f"sim-{kind}-{secrets.token_hex(16)}"


@dataclass
class Subscription:
    """One subscription of an app to one event type (and property)."""

    id: str
    event_type: str
    property_name: str | None
    active: bool
    created_ms: int
    updated_ms: int | None = None
    more: JSON = field(default_factory=dict)  # objectTypeId and eventTypeName, which only CRM objects have


@dataclass
class App:
    """A developer app; one webhook target and one developer key."""

    id: str
    client_id: str
    client_secret: str = field(repr=False)
    developer_key: str = field(repr=False)
    name: str = "Flask HubSpot HITL"
    target_url: str | None = None
    settings_ms: int = 0
    max_concurrent: int = 10
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    redirect_uris: tuple[str, ...] = ()  # none: any address on this machine and any https address
    required_scopes: tuple[str, ...] = ("oauth",)
    optional_scopes: tuple[str, ...] | None = None  # what else it may ask for; None: whatever its kind knows
    kind: str = "legacy-public"
    auth: str = "oauth"  # or static: no consent page, and so is a private app
    distribution: str | None = None  # private or marketplace
    project: tuple[str, str] | None = None  # the project it was uploaded from, and the account that was uploaded to

    def may_install(self) -> int | None:
        """How many accounts may install it; None: any number (docs/hubspot.rst: Project apps)."""
        return INSTALL_CAPS.get(self.distribution or "")


@dataclass
class Portal:
    """A HubSpot account."""

    id: str
    domain: str = "acme.test"
    ui_domain: str = "app.hubspot.com"


@dataclass
class Install:
    """An app installed in a portal."""

    app_id: str
    portal_id: str
    refresh_token: str = field(repr=False)
    scopes: tuple[str, ...] = SCOPES
    user_id: str = "987"
    used_ms: int | None = None  # when its refresh token was last used


@dataclass
class Token:
    """An access token; ``expires_ms`` is None for a static one."""

    value: str = field(repr=False)
    app_id: str
    portal_id: str
    scopes: tuple[str, ...]
    expires_ms: int | None


@dataclass
class Inbox:
    """A conversations inbox or a help desk."""

    id: str
    portal_id: str
    name: str
    type: str
    created_ms: int


@dataclass
class Channel:
    """A custom channel of an app; it can be seen after ``hidden_polls`` list calls and from ``visible_ms`` on."""

    id: str
    app_id: str
    name: str
    capabilities: JSON
    created_ms: int
    webhook_url: str | None = None
    redirect_url: str | None = None
    description: str | None = None
    logo_url: str | None = None
    archived: bool = False
    hidden_polls: int = 0
    visible_ms: int = 0


@dataclass
class ChannelAccount:
    """A channel's presence in one inbox of one portal."""

    id: str
    channel_id: str
    portal_id: str
    inbox_id: str
    name: str
    authorized: bool
    created_ms: int
    identifier: JSON | None = None
    archived: bool = False
    active: bool = True
    archived_ms: int | None = None
    published: dict[str, tuple[str, float]] = field(default_factory=dict)  # idempotency id -> message id, when


@dataclass
class StagingToken:
    """A connection somebody began inside HubSpot and has not finished."""

    value: str = field(repr=False)
    channel_id: str
    portal_id: str
    inbox_id: str
    created_ms: int
    name: str | None = None
    identifier: JSON | None = None


@dataclass
class Code:
    """An authorization code; ``challenge`` is PKCE's, with ``method`` S256 or plain."""

    app_id: str
    portal_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str | None = None
    method: str = "plain"


@dataclass
class Actor:
    """An agent, or a visitor who is no contact yet."""

    id: str
    portal_id: str
    type: str
    name: str | None = None
    email: str | None = None


@dataclass
class Contact:
    """A CRM contact; all property values are strings."""

    id: str
    portal_id: str
    properties: dict[str, str | None] = field(repr=False)
    created_ms: int
    updated_ms: int
    archived: bool = False
    merged_into: str | None = None
    history: dict[str, list[tuple[str, int]]] = field(default_factory=dict, repr=False)  # values and when, oldest first


@dataclass
class File:
    """A file in a portal's file manager."""

    id: str
    portal_id: str
    name: str
    extension: str
    content_type: str
    content: bytes = field(repr=False)
    access: str
    folder: str
    created_ms: int
    expires_ms: int | None = None
    archived: bool = False
    updated_ms: int | None = None
    usable: bool = False


@dataclass
class Message:
    """One entry of a thread; ``kind`` is HubSpot's ``type`` and ``extra`` what only that kind has."""

    id: str
    kind: str
    thread_id: str
    created_ms: int
    created_by: str
    client: JSON
    senders: list[JSON] = field(default_factory=list, repr=False)
    recipients: list[JSON] = field(default_factory=list, repr=False)
    text: str = field(default="", repr=False)
    rich_text: str | None = field(default=None, repr=False)
    attachments: list[JSON] = field(default_factory=list, repr=False)
    status: JSON | None = None
    updated_ms: int | None = None
    extra: JSON = field(default_factory=dict)


@dataclass
class Thread:
    """A conversation. ``customer`` is how the other side is reached: actorId, name and deliveryIdentifier."""

    id: str
    portal_id: str
    inbox_id: str
    channel_id: str
    account_id: str
    integration_thread_id: str
    customer: JSON = field(repr=False)
    created_ms: int
    contact_id: str
    status: str = "OPEN"
    assigned_to: str | None = None
    closed_ms: int | None = None
    archived: bool = False
    purged: bool = False
    ticket_id: str | None = None
    received_ms: int | None = None
    sent_ms: int | None = None
    messages: list[Message] = field(default_factory=list)
    seen: int = 0  # how many of them were there when somebody last opened the thread at the desk


class World:
    """All of it, plus the look-ups that need more than one dictionary."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.apps: dict[str, App] = {}
        self.portals: dict[str, Portal] = {}
        self.installs: dict[tuple[str, str], Install] = {}
        self.tokens: dict[str, Token] = {}
        self.codes: dict[str, Code] = {}
        self.journal = Journal()
        self.inboxes: dict[str, Inbox] = {}
        self.channels: dict[str, Channel] = {}
        self.accounts: dict[str, ChannelAccount] = {}
        self.staging: dict[str, StagingToken] = {}
        self.actors: dict[tuple[str, str], Actor] = {}  # portal id, actor id
        self.staff: dict[tuple[str, str], Member] = {}  # portal id, user id
        self.teams: dict[str, Team] = {}
        self.visitors: dict[tuple[str, str, str], str] = {}  # portal id, identifier type, value -> visitor id
        self.contacts: dict[str, Contact] = {}
        self.records: dict[str, Record] = {}
        self.files: dict[str, File] = {}
        self.folders: dict[str, Folder] = {}
        self.threads: dict[str, Thread] = {}
        self.routes: dict[tuple[str, str], str] = {}  # account id, integration thread id -> thread id

    def agents(self, portal_id: str) -> list[Actor]:
        """The agents of a portal, first one first."""
        return [a for a in self.actors.values() if a.portal_id == portal_id and a.type == "AGENT"]

    def members(self, portal_id: str) -> list[Member]:
        """What else HubSpot knows of each agent of a portal, first one first."""
        return [self.member(agent) for agent in self.agents(portal_id)]

    def member(self, agent: Actor) -> Member:
        """What else HubSpot knows of an agent."""
        key, now = (agent.portal_id, agent.id.removeprefix("A-")), now_ms()
        if key not in self.staff:
            self.staff[key] = Member(key[1], self.ids.large(), self.ids.large(), now, now)
        return self.staff[key]

    def contacts_of(self, portal_id: str) -> list[Contact]:
        """The contacts of a portal that are not archived, oldest first."""
        return [c for c in self.contacts.values() if c.portal_id == portal_id and not c.archived]

    def install_of(self, refresh_token: str) -> Install | None:
        """The installation a refresh token belongs to."""
        return next((i for i in self.installs.values() if i.refresh_token == refresh_token), None)

    def full(self, app: App, portal_id: str) -> bool:
        """Whether one more account can't install the app; one that has it can always install it again."""
        cap, there = app.may_install(), sum(app_id == app.id for app_id, _ in self.installs)
        return cap is not None and there >= cap and not self.installed(app.id, portal_id)

    def installed(self, app_id: str, portal_id: str) -> bool:
        """Whether the app is installed in the portal; events are only sent when it is."""
        return (app_id, portal_id) in self.installs

    def message(self, message_id: str) -> tuple[Thread, Message] | None:
        """A message and its thread, by the message's id."""
        for thread in self.threads.values():
            for message in thread.messages:
                if message.id == message_id:
                    return thread, message
        return None

    def visible(self, channel: Channel) -> bool:
        """Whether a new channel has got around by now (docs/hubspot.rst: Propagation)."""
        return channel.hidden_polls <= 0 and channel.visible_ms <= now_ms()
