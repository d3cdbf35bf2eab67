"""The scopes that HubSpot has, and which kind of app knows which. Knows nothing of HTTP.

Source: docs/hubspot.rst (Scopes): those that HubSpot's OpenAPI documents name, and a few that only its guides do.
"""

from __future__ import annotations

KINDS = ("project", "legacy-public", "legacy-private")
"""What an app is, in the words of the setting ``APP_KIND``."""

_PLAIN = (
    "carts commercepayments courses goals invoices leads line_items listings orders partner-clients partner-services "
    "products quotes services subscriptions users"
)
_GUARDED = "companies contacts custom deals"
_SENSITIVE = {
    "appointments": "sensitive.read sensitive.write sensitive.read.v2 sensitive.write.v2",
    "projects": "sensitive.read sensitive.write highly_sensitive.read highly_sensitive.write",
    **dict.fromkeys(
        _GUARDED.split(),
        "sensitive.read sensitive.write sensitive.read.v2 sensitive.write.v2 "
        "highly_sensitive.read highly_sensitive.write highly_sensitive.read.v2 highly_sensitive.write.v2",
    ),
}
_OTHERS = """
    contacts conversations.custom_channels.read conversations.custom_channels.write conversations.read
    conversations.write developers-read developers-write e-commerce files files.delete files.read files.ui_hidden.read
    files.ui_hidden.write files.write media_bridge.read oauth private-apps-read private-apps-write
    settings.users.teams.read settings.users.teams.write tickets tickets.highly_sensitive tickets.highly_sensitive.v2
    tickets.sensitive tickets.sensitive.v2 webhooks-journal-data-access webhooks-journal-snapshot-management
    webhooks-journal-subscription-management webhooks-journal-subscription-read
"""

DOCUMENTED = frozenset(
    {f"crm.objects.{thing}.{right}" for thing in [*_PLAIN.split(), *_SENSITIVE] for right in ("read", "write")}
    | {f"crm.objects.{thing}.{right}" for thing, rights in _SENSITIVE.items() for right in rights.split()}
    | set(_OTHERS.split())
)
"""Every scope that an OpenAPI document names."""

GUIDES = frozenset(
    {
        "automation",
        "business-intelligence",
        "content",
        "conversations.visitor_identification.tokens.create",
        "crm.lists.read",
        "crm.lists.write",
        "crm.objects.owners.read",
        "crm.schemas.companies.read",
        "crm.schemas.companies.write",
        "crm.schemas.contacts.read",
        "crm.schemas.contacts.write",
        "crm.schemas.deals.read",
        "crm.schemas.deals.write",
        "forms",
        "sales-email-read",
        "settings.users.read",
        "settings.users.write",
        "timeline",
    }
)
"""Some that only guides name; there are more."""

LEGACY_ONLY = frozenset({"files"})
"""What project apps are refused."""
NEW = frozenset({"files.read", "files.write"})
"""What project apps have in its place."""


def known_to(kind: str, *, legacy_has_new: bool = True) -> frozenset[str]:
    """Return the scopes that an app of a kind can ask for.

    :param legacy_has_new: whether legacy apps know :data:`NEW` too, which HubSpot's documents do not tell.
    """
    everything = DOCUMENTED | GUIDES
    if kind == "project":
        return everything - LEGACY_ONLY
    return everything if legacy_has_new else everything - NEW
