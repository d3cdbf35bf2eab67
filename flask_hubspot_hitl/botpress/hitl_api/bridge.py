"""Put the ``hitl-api`` bridge together on one app, from its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from ...errors import NotConfigured
from ...runtime import get_runtime
from ..delivery import Delivery
from ..door import add_routes, segment
from ..keys import Key
from ..messages import FILE_HOSTS
from ..options import Options
from ..relay import Relay
from ..service import Service
from .agents import PROBE, Agents
from .routes import Routes
from .tickets import NAME, Tickets

if TYPE_CHECKING:
    from ...extension import HubSpotHITL


class HitlApiBridge:
    """Take over conversations that Botpress's older HITL agent hands away, and give them back.

    ``HitlApiBridge(hitl).init_app(app)`` after ``hitl.init_app(app)``. An option that is None is read from
    ``HUBSPOT_HITL_BOTPRESS_<OPTION>``. Source of the wire facts: docs/botpress.rst (What Botpress sends; What the
    service sends).
    """

    def __init__(self, hitl: HubSpotHITL, *, secret: str | None = None, webhook_url: str | None = None) -> None:
        """Make a bridge.

        :param hitl: the extension.
        :param secret: the last path segment of the *endpoint base URL* that Botpress is given,
            ``<PUBLIC_URL><prefix>/botpress/hitl-api/<secret>``; at least 16 characters.
        :param webhook_url: the integration's own URL, which is a secret too.
        """
        self._hitl = hitl
        self._given = {"secret": secret, "webhook_url": webhook_url}

    def init_app(self, app: Flask) -> None:
        """Add the routes and connect the signals; nothing where the app runs without live agents.

        :param app: the app, on which the extension is.
        :raises ConfigError: one or more options are wrong; the error lists all of them.
        :raises RuntimeError: the extension is not on the app, or the bridge is already.
        """
        try:
            runtime = get_runtime(app)
        except NotConfigured:
            return  # this app runs without live agents
        options = Options(app)
        secret = options.secret("secret", self._given["secret"], example="32 random letters and digits")
        url = options.url(
            "webhook_url", self._given["webhook_url"], example="https://webhook.botpress.cloud/<the integration's id>"
        )
        options.check()
        runtime.services.remote_files.allow(*FILE_HOSTS)
        botpress = Service.of(runtime, url, key=Key(runtime, NAME, PROBE))
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
