"""HitlApiBridge: a bot on Botpress's older HITL agent, with the ``plus/hitl-api`` integration. The page is not used."""

from __future__ import annotations

from flask import Flask

from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge

from ..extensions import hitl

bridge = HitlApiBridge(hitl)


def connect(app: Flask) -> None:
    """Switch the bridge on."""
    bridge.init_app(app)
