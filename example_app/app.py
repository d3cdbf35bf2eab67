"""The app: a ``Flask`` subclass with a hook for extensions, and the factory that puts the parts together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from flask import Flask, Response

from . import bridges, chat, demo, handlers
from .extensions import hitl
from .store import Store

CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"


class Extension(Protocol):
    """What :meth:`ChatApp.register_extension` takes."""

    def init_app(self, app: Flask) -> None:
        """Set the extension up for an app."""


class ChatApp(Flask):
    """A Flask that registers extensions through one method, as larger apps like to."""

    def register_extension(self, extension: Extension) -> None:
        """Give an extension this app."""
        extension.init_app(self)


def create_app(config: Mapping[str, Any] | None = None) -> ChatApp:
    """Make the app from the environment (``FLASK_*`` and ``HUBSPOT_HITL_*``), then from ``config``.

    ``EXAMPLE_BRIDGE`` puts a Botpress bot in place of the app's own, through one of ``bridges``.
    Without HubSpot's settings only the command line works, which is all that ``flask --app example_app demo`` needs.
    """
    app = ChatApp(__name__, instance_path=os.environ.get("EXAMPLE_INSTANCE_PATH"))
    app.config.from_mapping(
        SESSION_COOKIE_NAME="example_chat",  # cookies are shared by all ports of a machine
        SESSION_COOKIE_SAMESITE="Lax",
        MAX_CONTENT_LENGTH=10_000_000,
        EXAMPLE_BRIDGE=os.environ.get("EXAMPLE_BRIDGE", ""),
        EXAMPLE_NAME="",
        EXAMPLE_CONTACT="",
        EXAMPLE_ADMIN=False,
    )
    app.config.from_prefixed_env()
    app.config.from_mapping({key: text for key, text in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    app.config.from_mapping(config or {})
    app.cli.add_command(demo.demo)
    bridge = app.config["EXAMPLE_BRIDGE"]
    if bridge in ("", "chat"):  # with the others the user's channel is the bot's own
        app.register_blueprint(chat.bp)
    app.after_request(harden)
    if app.config.get("HUBSPOT_HITL_CLIENT_SECRET"):
        app.extensions["chat_store"] = Store(Path(app.instance_path) / "chat.sqlite3")
        app.register_extension(hitl)
        if bridge:
            bridges.connect(app, bridge)
        else:
            handlers.connect(app)
    return app


def harden(response: Response) -> Response:
    """Headers every answer carries."""
    response.headers["Content-Security-Policy"] = CSP
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Referrer-Policy", "same-origin")  # some pages of the extension say less
    if response.mimetype in ("text/html", "application/json"):
        response.headers["Cache-Control"] = "no-store"
    return response
