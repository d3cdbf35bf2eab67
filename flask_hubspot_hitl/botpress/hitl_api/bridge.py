"""``HitlApiBridge``: its options, and how its parts are put together on one app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from ...runtime import get_runtime
from ..delivery import Delivery
from ..door import add_routes, segment
from ..messages import FILE_HOSTS
from ..options import Options
from ..relay import Relay
from ..service import Service
from .agents import Agents
from .routes import Routes
from .tickets import NAME, Tickets

if TYPE_CHECKING:
    from ...extension import HubSpotHITL


class HitlApiBridge:
    """``HitlApiBridge(hitl).init_app(app)`` after ``hitl.init_app(app)``.

    ``secret`` is the path segment that Botpress is given in its *endpoint base URL*,
    ``<PUBLIC_URL><prefix>/botpress/hitl-api/<secret>``; ``webhook_url`` is the integration's own URL, which is a
    secret too. Each falls back to ``HUBSPOT_HITL_BOTPRESS_<OPTION>``.
    """

    def __init__(self, hitl: HubSpotHITL, *, secret: str | None = None, webhook_url: str | None = None) -> None:
        self._hitl = hitl
        self._given = {"secret": secret, "webhook_url": webhook_url}

    def init_app(self, app: Flask) -> None:
        """Add the routes and connect the signals.

        :raises ConfigError: listing everything that is wrong with the options.
        """
        options = Options(app)
        secret = options.secret("secret", self._given["secret"], example="32 random letters and digits")
        url = options.url(
            "webhook_url", self._given["webhook_url"], example="https://webhook.botpress.cloud/<the integration's id>"
        )
        options.check()
        runtime = get_runtime(app)
        runtime.services.remote_files.allow(*FILE_HOSTS)
        botpress = Service.of(runtime, url)
        relay = Relay(app, NAME)
        tickets = Tickets(runtime.ledger, relay)
        agents = Agents(app, runtime.ledger, botpress, tickets, Delivery(runtime.ledger, NAME))
        routes = Routes(runtime, relay, tickets, agents)
        views = {
            "ping": routes.ping,
            "createRemoteUser": routes.create_user,
            "createRemoteConversation": routes.create_conversation,
            "botSendsMessage": routes.bot_sends,
            "closeRemoteTicket": routes.close_ticket,
        }
        rules = {f"/<secret>/{name}": view for name, view in views.items()}
        add_routes(app, NAME, "/hitl-api", rules, check=segment(secret))
        app.extensions[__name__] = agents  # signals hold their receivers weakly
