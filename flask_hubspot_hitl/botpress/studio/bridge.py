"""Put the Studio bridge together on one app, from its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flask import Flask

from ...errors import NotConfigured
from ...runtime import get_runtime
from .. import notices
from ..delivery import Delivery
from ..door import add_routes, bearer
from ..keys import Key
from ..messages import FILE_HOSTS
from ..options import Options
from ..relay import Relay
from ..service import Service
from ..session import Sessions
from .api import PROBE, RuntimeApi
from .channel import Channel
from .gate import Gate
from .memory import NAME, Memory

if TYPE_CHECKING:
    from ...extension import HubSpotHITL


class StudioBridge:
    """Answer the code cards of a bot whose channel is Botpress's own: who answers the user, open a handoff, end it.

    ``StudioBridge(hitl).init_app(app)`` after ``hitl.init_app(app)``. An option that is None is read from
    ``HUBSPOT_HITL_BOTPRESS_<OPTION>``. Source of the wire facts: docs/botpress.rst (Runtime calls; Webhook integration;
    Studio).
    """

    def __init__(
        self,
        hitl: HubSpotHITL,
        *,
        bot_id: str | None = None,
        token: str | None = None,
        call_secret: str | None = None,
        api_url: str | None = None,
        resume_webhook: str | None = None,
        resume_webhook_secret: str | None = None,
        messages: Mapping[str, str] | None = None,
        language: str | None = None,
        waiting: str | None = None,
    ) -> None:
        """Make a bridge.

        :param hitl: the extension.
        :param bot_id: the bot's id, as the Studio's address has it.
        :param token: a bot access key, ``bp_bak_…``.
        :param call_secret: what the bot's code cards send as bearer; at least 16 characters.
        :param api_url: Botpress's API; by default ``https://api.botpress.cloud``.
        :param resume_webhook: the URL of a Webhook integration that is told when a session ends; by default none.
        :param resume_webhook_secret: that integration's secret, if it has one.
        :param messages: texts for the user by name, in place of those of :data:`.texts.TEXTS`, for all sessions;
            ``"NULL"``: none.
        :param language: of the other texts: ``en`` (default), ``de``, ``fr``, ``es``, ``pt`` or ``it``.
        :param waiting: whether the user is told of their place in the queue, at first and whenever it changes:
            ``none`` (default) or ``notice``.
        """
        self._hitl = hitl
        self._bot_id, self._token, self._call_secret, self._api_url = bot_id, token, call_secret, api_url
        self._resume_webhook, self._resume_secret = resume_webhook, resume_webhook_secret
        self._messages, self._language, self._waiting = notices.known(messages), language, waiting

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
        bot_id = options.text("bot_id", self._bot_id, "the id in the Studio's URL")
        token = options.secret("token", self._token, example="a bot access key, bp_bak_…")
        call_secret = options.secret("call_secret", self._call_secret, example="32 random letters and digits")
        api_url = options.url("api_url", self._api_url, example="…", default="https://api.botpress.cloud")
        resume = options.url(
            "resume_webhook", self._resume_webhook, example="https://webhook.botpress.cloud/…", required=False
        )
        secret = options.secret("resume_webhook_secret", self._resume_secret, example="…", required=False)
        messages = {notices.LANGUAGE: options.choice("language", self._language, *notices.LANGUAGES), **self._messages}
        tells_place = options.choice("waiting", self._waiting, "none", "notice") == "notice"
        options.check()
        runtime.services.remote_files.allow(*FILE_HOSTS)
        headers = {"Authorization": f"Bearer {token}", "x-bot-id": bot_id}
        api = RuntimeApi(Service.of(runtime, api_url, headers=headers, key=Key(runtime, NAME, PROBE)), bot_id)
        headers = {"x-bp-secret": secret} if secret else {}
        resumed = Service.of(runtime, resume, headers=headers) if resume else None
        sessions, memory = Sessions(app, NAME, messages, tells_place=tells_place), Memory(runtime.ledger)
        gate = Gate(runtime, Relay(app, NAME), api, sessions, memory)
        channel = Channel(app, api, sessions, memory, Delivery(runtime.ledger, NAME), resume=resumed)
        views = {"/start": gate.start, "/turn": gate.turn, "/stop": gate.stop, "/note": gate.note}
        add_routes(app, NAME, "", views, check=bearer(call_secret))
        app.extensions[__name__] = channel  # signals hold their receivers weakly
