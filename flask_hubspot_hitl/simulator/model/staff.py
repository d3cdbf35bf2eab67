"""What HubSpot knows of an agent beside the actor: an owner and a user object. Three ids, of three domains.

Source: docs/hubspot.rst (Actors; Owners). Knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Member:
    """An agent as an owner (``owner_id``) and as a CRM user object (``object_id``); the actor is ``A-<user_id>``."""

    user_id: str
    owner_id: str
    object_id: str
    created_ms: int
    updated_ms: int
    archived: bool = False


@dataclass
class Team:
    """A team of a portal; ``members`` has for each user id whether the team is that user's main one."""

    id: str
    portal_id: str
    name: str
    parent_id: str | None = None
    members: dict[str, bool] = field(default_factory=dict)
