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
_SCHEMAS = "companies contacts custom deals line_items quotes"
_CMS = "domains functions knowledge_base.articles knowledge_base.settings membership.access_groups performance"
_GUIDES = """
    account-info.security.read accounting actions analytics.behavioral_events.send automation
    automation.sequences.enrollments.write automation.sequences.read
    behavioral_events.event_definitions.read_write business-intelligence business_units_view.read
    collector.graphql_query.execute collector.graphql_schema.read communication_preferences.read
    communication_preferences.read_write communication_preferences.statuses.batch.read
    communication_preferences.statuses.batch.write communication_preferences.write content
    conversations.visitor_identification.tokens.create crm.dealsplits.read_write crm.export crm.import crm.lists.read
    crm.lists.write crm.objects.feedback_submissions.read crm.objects.marketing_events.read
    crm.objects.marketing_events.write crm.objects.owners.read crm.pipelines.orders.read crm.pipelines.orders.write
    ctas.read external_integrations.forms.access forms forms-uploaded-files hubdb integration-sync marketing-email
    marketing.campaigns.read marketing.campaigns.write sales-email-read scheduler.meetings.meeting-link.read
    settings.billing.write settings.currencies.read settings.currencies.write settings.security.security_health.read
    settings.users.read settings.users.write social tax_rates.read timeline transactional-email
"""

DOCUMENTED = frozenset(
    {f"crm.objects.{thing}.{right}" for thing in [*_PLAIN.split(), *_SENSITIVE] for right in ("read", "write")}
    | {f"crm.objects.{thing}.{right}" for thing, rights in _SENSITIVE.items() for right in rights.split()}
    | set(_OTHERS.split())
)
"""Every scope that an OpenAPI document names."""

GUIDES = frozenset(
    {f"crm.schemas.{thing}.{right}" for thing in _SCHEMAS.split() for right in ("read", "write")}
    | {f"cms.{thing}.{right}" for thing in _CMS.split() for right in ("read", "write")}
    | set(_GUIDES.split())
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
