"""A small Flask bot that hands its conversations to people in HubSpot, the way a user's own app would.

``make demo`` runs it beside the stand-in for HubSpot; ``flask --app example_app run`` with ``HUBSPOT_HITL_*`` and
``FLASK_SECRET_KEY`` in the environment runs it against the real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import ChatApp


def create_app(config: Mapping[str, Any] | None = None) -> ChatApp:
    """Make the app; see :func:`.app.create_app`. What it needs is loaded then: ``demo`` does without."""
    from .app import create_app

    return create_app(config)
