"""The extensions, made once; ``create_app`` gives them the app."""

from __future__ import annotations

from flask_hubspot_hitl import HubSpotHITL

hitl = HubSpotHITL()
