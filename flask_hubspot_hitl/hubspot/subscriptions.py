"""Name the app's webhook subscriptions that handoffs live by. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription of the app; ``property_name`` with ``conversation.propertyChange`` only."""

    event_type: str
    property_name: str | None = None

    def __str__(self) -> str:
        return f"{self.event_type} of {self.property_name}" if self.property_name else self.event_type

    def fields(self) -> dict[str, str]:
        """``eventType`` and ``propertyName``, as HubSpot names them."""
        named = {"propertyName": self.property_name} if self.property_name else {}
        return {"eventType": self.event_type, **named}


SUBSCRIPTIONS = (
    Subscription("conversation.newMessage"),
    Subscription("conversation.propertyChange", "assignedTo"),
    Subscription("conversation.propertyChange", "status"),
    Subscription("conversation.propertyChange", "isArchived"),
    Subscription("conversation.deletion"),
    Subscription("conversation.privacyDeletion"),
)
MAX_CONCURRENT_REQUESTS = 10
"""HubSpot's own default."""
