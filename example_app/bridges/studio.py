"""StudioBridge: the user's channel is the bot's own (webchat, WhatsApp, ...); its snippets ask this app who answers.

The two snippets are in the README. This app's page is not used.
"""

from __future__ import annotations

from flask import Flask

from flask_hubspot_hitl.botpress.studio import StudioBridge

from ..extensions import hitl

bridge = StudioBridge(hitl)


def connect(app: Flask) -> None:
    """Switch the bridge on."""
    bridge.init_app(app)
