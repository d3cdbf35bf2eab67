"""What an app can subscribe to at HubSpot; only conversation events ever happen here.

Source: docs/hubspot.rst (Subscriptions API; Project apps).
"""

from __future__ import annotations

from .world import SUBSCRIPTIONS

OBJECTS = ("company", "contact", "deal", "line_item", "product", "ticket")
CHANGES = ("associationChange", "creation", "deletion", "merge", "propertyChange", "restore")

CONVERSATIONS = frozenset(kind for kind, _ in SUBSCRIPTIONS)
LEGACY_CRM = frozenset(f"{thing}.{change}" for thing in OBJECTS for change in CHANGES) - {"product.associationChange"}
CRM = frozenset(f"object.{change}" for change in CHANGES)
TYPES = CONVERSATIONS | LEGACY_CRM | CRM | {"contact.privacyDeletion", "event.completed"}
"""What the API of legacy public apps takes."""

LISTS = {
    "crmObjects": CRM,
    "legacyCrmObjects": LEGACY_CRM,
    "hubEvents": CONVERSATIONS | {"contact.privacyDeletion"},
}
"""The three lists of a project's webhooks file, each with the types that belong there."""

PROPERTIES = frozenset(name for _, name in SUBSCRIPTIONS if name is not None)
"""The properties of a conversation whose changes can be subscribed to."""
