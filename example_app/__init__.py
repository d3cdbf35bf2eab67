"""A small Flask bot that hands its conversations to people in HubSpot, the way a user's own app would.

``make demo`` runs it beside the stand-in for HubSpot; ``flask --app example_app run`` with ``HUBSPOT_HITL_*`` and
``FLASK_SECRET_KEY`` in the environment runs it against the real one.
"""

from __future__ import annotations

from .app import create_app

__all__ = ["create_app"]
