"""The kinds of CRM objects that HubSpot has, and the scopes that reading takes. Knows nothing of HTTP.

Source: docs/hubspot.rst (Kinds of objects).
"""

from __future__ import annotations

import re

CONTACTS = "crm.objects.contacts.read"
_WITH_CONTACTS = "calls communications contacts emails feedback_submissions meetings notes postal_mail tasks"
_WITH_LINE_ITEMS = "discounts fees line_items taxes"
_BY_THEMSELVES = "carts companies deals invoices leads orders products quotes subscriptions users"
READ = {
    **dict.fromkeys(_WITH_CONTACTS.split(), CONTACTS),
    **dict.fromkeys(_WITH_LINE_ITEMS.split(), "crm.objects.line_items.read"),
    **{kind: f"crm.objects.{kind}.read" for kind in _BY_THEMSELVES.split()},
    "commerce_payments": "crm.objects.commercepayments.read",
    "goal_targets": "crm.objects.goals.read",
    "partner_clients": "crm.objects.partner-clients.read",
    "partner_services": "crm.objects.partner-services.read",
    "tickets": "tickets",
}
"""The scope that objects of a kind, and their properties, are read with."""

_CUSTOM = "crm.schemas.custom.read"
_OLDER = {"companies": READ["companies"], "deals": READ["deals"], "contacts": CONTACTS}
_SCHEMAS = re.compile(r"/crm/(v3/schemas|object-schemas/[^/]+/schemas)|/crm-object-schemas/")
_OBJECTS = re.compile(r"/crm/(?:v[34]/objects|objects/[^/]+|v3/pipelines|pipelines/[^/]+)/([a-z_]+)")
_V1 = re.compile(r"/(?:properties/v[12]/)?(companies|contacts|deals)/(?:v[12]/|properties|groups)")


def scope_for(path: str) -> str | None:
    """Return the scope that a call to a path takes, whether it is served here or not; None where that is not known.

    :param path: of the request, such as ``/crm/v3/objects/deals``.
    """
    if _SCHEMAS.match(path):
        return _CUSTOM
    found = _OBJECTS.match(path)
    if found is not None:
        return READ.get(found[1])
    found = _V1.match(path)
    return None if found is None else _OLDER[found[1]]
