"""Where each operation lives, per HubSpot API version; every segment quoted.

A family that a version has no document of is served at the path of the newest version before it that has one. Imports
nothing of ours. Source: HubSpot's OpenAPI files of v3, 2026-03 and 2026-09; docs/hubspot.rst (Paths; Calendar).
"""

from __future__ import annotations

from urllib.parse import quote

API_VERSIONS = ("v3", "2026-03", "2026-09")
OAUTH_VERSIONS = ("v1", *API_VERSIONS)
NEWEST = API_VERSIONS[-1]
API_ENDS = {
    "v3": "ends in September 2027",
    "2026-03": "ends in September 2027, as do the /v3 paths of conversations, which it has no own ones of",
}
"""What HubSpot has announced of versions that end soon, to follow the version's name."""
OAUTH_ENDS = {
    "v1": "ends on 16 February 2027",
    "v3": "ends in September 2027",
    "2026-03": "ends in September 2027",
}
"""The same of the token endpoint's."""

_V3 = {
    "custom_channels": "/conversations/v3/custom-channels",
    "conversations": "/conversations/v3/conversations",
    # HubSpot's own file has this one operation of the v3 conversations under another prefix.
    "assignee": "/conversations/conversations/v3",
    "webhooks": "/webhooks/v3",
    "oauth": "/oauth/v3",
    "app_installs": "/appinstalls/v3",
    "account_info": "/account-info/v3",
    "files": "/files/v3",
    "contacts": "/crm/v3/objects/contacts",
    "users": "/crm/v3/objects/users",
    "tickets": "/crm/v3/objects/tickets",
    "notes": "/crm/v3/objects/notes",
    # There is one version of teams.
    "teams": "/settings/teams/2026-09-beta",
    # There is no v3 of the journal: it is the oldest version.
    "journal": "/webhooks-journal/journal/2026-03",
    "journal_subscriptions": "/webhooks-journal/subscriptions/2026-03",
}
_FAMILIES: dict[str, dict[str, str]] = {
    "v3": _V3,
    "2026-03": _V3
    | {
        "custom_channels": "/conversations/custom-channels/2026-03",
        "webhooks": "/webhooks/2026-03",
        "oauth": "/oauth/2026-03",
        "app_installs": "/appinstalls/2026-03",
        "account_info": "/account-info/2026-03",
        "files": "/files/2026-03",
        "contacts": "/crm/objects/2026-03/contacts",
        "users": "/crm/objects/2026-03/users",
        "tickets": "/crm/objects/2026-03/tickets",
        "notes": "/crm/objects/2026-03/notes",
    },
    "2026-09": _V3
    | {
        "custom_channels": "/conversations/custom-channels/2026-09",
        "conversations": "/conversations/conversations/2026-09",
        "assignee": "/conversations/conversations/2026-09",
        "webhooks": "/app-webhooks/2026-09",
        "oauth": "/oauth/2026-09",
        "app_installs": "/appinstalls/2026-09",
        "account_info": "/account-info/2026-09",
        "files": "/files/2026-03",  # docs/hubspot.rst (Upload): 2026-09 has paths, but its document is not at hand
        "contacts": "/crm/objects/2026-09/contacts",
        "users": "/crm/objects/2026-09/users",
        "tickets": "/crm/objects/2026-09/tickets",
        "notes": "/crm/objects/2026-09/notes",
        "journal": "/webhooks-journal/journal/2026-09",
        "journal_subscriptions": "/webhooks-journal/subscriptions/2026-09",
    },
}

Segment = str | int
MAX_SEGMENT = 200
"""Characters, at most, of one path segment."""


def segment(value: Segment) -> str:
    """``value`` as one quoted path segment; ``ValueError`` for what would change the path's shape."""
    text = str(value)
    if text in ("", ".", "..") or len(text) > MAX_SEGMENT:
        raise ValueError(f"an id in a HubSpot path must be 1 to {MAX_SEGMENT} characters, and not . or ..")
    return quote(text, safe="")  # UnicodeEncodeError, for a lone surrogate, is a ValueError too


class Paths:
    """The paths of one API version: ``v3``, ``2026-03`` or ``2026-09``. Every method may raise ``ValueError``."""

    def __init__(self, api_version: str) -> None:
        if api_version not in _FAMILIES:
            raise ValueError(f"the API version must be one of {', '.join(API_VERSIONS)}")
        self.api_version = api_version
        self._prefix = _FAMILIES[api_version]

    def __repr__(self) -> str:
        return f"Paths({self.api_version!r})"

    def _at(self, family: str, *tail: Segment) -> str:
        return "/".join((self._prefix[family], *(segment(part) for part in tail)))

    # Custom channels

    def channels(self) -> str:
        return self._at("custom_channels")

    def channel(self, channel_id: Segment) -> str:
        return self._at("custom_channels", channel_id)

    def channel_accounts(self, channel_id: Segment) -> str:
        return self._at("custom_channels", channel_id, "channel-accounts")

    def channel_account(self, channel_id: Segment, account_id: Segment) -> str:
        return self._at("custom_channels", channel_id, "channel-accounts", account_id)

    def staging_token(self, channel_id: Segment, account_token: Segment) -> str:
        return self._at("custom_channels", channel_id, "channel-account-staging-tokens", account_token)

    def channel_messages(self, channel_id: Segment) -> str:
        return self._at("custom_channels", channel_id, "messages")

    def channel_message(self, channel_id: Segment, message_id: Segment) -> str:
        return self._at("custom_channels", channel_id, "messages", message_id)

    # Conversations

    def threads(self) -> str:
        return self._at("conversations", "threads")

    def thread(self, thread_id: Segment) -> str:
        return self._at("conversations", "threads", thread_id)

    def thread_assignee(self, thread_id: Segment) -> str:
        return self._at("assignee", "threads", thread_id, "assignee")

    def thread_messages(self, thread_id: Segment) -> str:
        return self._at("conversations", "threads", thread_id, "messages")

    def thread_message(self, thread_id: Segment, message_id: Segment) -> str:
        return self._at("conversations", "threads", thread_id, "messages", message_id)

    def original_content(self, thread_id: Segment, message_id: Segment) -> str:
        return self._at("conversations", "threads", thread_id, "messages", message_id, "original-content")

    def actor(self, actor_id: Segment) -> str:
        return self._at("conversations", "actors", actor_id)

    def actors_batch(self) -> str:
        return self._at("conversations", "actors", "batch", "read")

    def inboxes(self) -> str:
        return self._at("conversations", "inboxes")

    def inbox(self, inbox_id: Segment) -> str:
        return self._at("conversations", "inboxes", inbox_id)

    # The app: webhooks, OAuth, account

    def webhook_settings(self, app_id: Segment) -> str:
        return self._at("webhooks", app_id, "settings")

    def webhook_subscriptions(self, app_id: Segment) -> str:
        return self._at("webhooks", app_id, "subscriptions")

    def webhook_subscription(self, app_id: Segment, subscription_id: Segment) -> str:
        return self._at("webhooks", app_id, "subscriptions", subscription_id)

    def webhook_subscriptions_batch(self, app_id: Segment) -> str:
        return self._at("webhooks", app_id, "subscriptions", "batch", "update")

    def journal_earliest(self) -> str:
        return self._at("journal", "earliest")

    def journal_after(self, offset: Segment) -> str:
        return self._at("journal", "offset", offset, "next")

    def journal_subscriptions(self) -> str:
        return self._at("journal_subscriptions")

    def oauth_token(self) -> str:
        return self._at("oauth", "token")

    def oauth_introspect(self) -> str:
        return self._at("oauth", "token", "introspect")

    def oauth_revoke(self) -> str:
        return self._at("oauth", "token", "revoke")

    def uninstall(self) -> str:
        return self._at("app_installs", "external-install")

    def account_info(self) -> str:
        return self._at("account_info", "details")

    # Users and teams

    def users(self) -> str:
        return self._at("users")

    def users_batch_read(self) -> str:
        return self._at("users", "batch", "read")

    def team_members(self, team_id: Segment) -> str:
        return self._at("teams", team_id, "members")

    # Tickets and notes

    def tickets(self) -> str:
        return self._at("tickets")

    def ticket(self, ticket_id: Segment) -> str:
        return self._at("tickets", ticket_id)

    def notes(self) -> str:
        return self._at("notes")

    def notes_batch_read(self) -> str:
        return self._at("notes", "batch", "read")

    # Files and contacts

    def files(self) -> str:
        return self._at("files", "files")

    def file_signed_url(self, file_id: Segment) -> str:
        return self._at("files", "files", file_id, "signed-url")

    def contacts(self) -> str:
        return self._at("contacts")

    def contact(self, contact_id: Segment) -> str:
        return self._at("contacts", contact_id)

    def contact_search(self) -> str:
        return self._at("contacts", "search")
