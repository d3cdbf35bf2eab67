"""The blueprint: the routes of one app."""

from __future__ import annotations

from flask import Blueprint, Flask

from ..config import Settings
from . import connect, files, oauth
from .hosts import AnyHost
from .webhook import healthz, webhook

BLUEPRINT = "hubspot_hitl"


def create_blueprint(settings: Settings) -> Blueprint:
    """Make the blueprint of one app's routes."""
    blueprint = AnyHost(
        BLUEPRINT, __name__, template_folder="templates", static_folder="static", static_url_path="/static"
    )
    blueprint.add_url_rule("/webhook", view_func=webhook, methods=["POST"])
    blueprint.add_url_rule("/healthz", view_func=healthz, methods=["GET"])
    oauth.add_routes(blueprint)
    connect.add_routes(blueprint)
    files.add_routes(blueprint)
    return blueprint


def exempt_from_csrf(app: Flask) -> None:
    """Exempt our routes from Flask-WTF's CSRF check, whichever of the two extensions is initialised first."""
    csrf = app.extensions.get("csrf")
    if csrf is not None and hasattr(csrf, "exempt"):
        for view in (webhook, oauth.install, connect.connect):
            csrf.exempt(view)
